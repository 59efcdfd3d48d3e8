"""Data sets made on this machine in place of a benchmark's: simulation alone, nothing is read."""
