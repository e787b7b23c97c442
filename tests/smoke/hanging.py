"""Run `gatewayctl` on a disk that hangs once its data directory has a file `hang`."""

from __future__ import annotations

import os
from pathlib import Path

from ollama_gateway.__main__ import main
from ollama_gateway.storage import sqlite
from ollama_gateway.storage.private_file import Identity, identity


def hanging(path: Path) -> Identity:
    """Return a file's identity, or never, like a file system that does not respond."""
    if (path.parent / "hang").exists():
        reading, _ = os.pipe()
        os.read(reading, 1)
    return identity(path)


if __name__ == "__main__":
    # All stores ask there for a file's identity before each use of it.
    setattr(sqlite, "identity", hanging)  # noqa: B010 - it is imported there, not exported
    main()
