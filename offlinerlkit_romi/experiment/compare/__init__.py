"""Several algorithms side by side: make the runs that are missing, then one table, one figure."""
