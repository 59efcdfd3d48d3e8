"""Tasks x algorithms x seeds x any option, from one file: on a Ray cluster, or on this machine."""
