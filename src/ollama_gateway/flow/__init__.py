"""One request: `exchange.py` is its whole path, on one screen."""
