"""Several processes on one machine: the parent, its children, its answers for all of them."""
