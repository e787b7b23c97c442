"""Several processes on one machine: the parent, its children, and its admin listener for all."""
