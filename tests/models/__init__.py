"""Load policies as values."""
