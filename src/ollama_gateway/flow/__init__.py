"""One request: `exchange.py` is the whole story, on one screen."""
