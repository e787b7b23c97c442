"""Run `gatewayctl` on a disk that hangs once its data directory has a file `hang`."""

from __future__ import annotations

import os
from pathlib import Path

from ollama_gateway.__main__ import main
from ollama_gateway.keys import sqlite as keys
from ollama_gateway.ledger import journal
from ollama_gateway.limits import spending_file
from ollama_gateway.storage.private_file import Identity, identity

STORES = (journal, keys, spending_file)
"""Modules that read a file's identity before each use."""


def hanging(path: Path) -> Identity:
    """Return a file's identity, or never, like a file system that does not respond."""
    if (path.parent / "hang").exists():
        reading, _ = os.pipe()
        os.read(reading, 1)
    return identity(path)


if __name__ == "__main__":
    for store in STORES:
        setattr(store, "identity", hanging)  # noqa: B010 - it is imported there, not exported
    main()
