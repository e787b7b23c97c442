"""The options of a request that make Ollama load a model anew where they differ from the last ones.

Ollama: server/sched.go, `needsReload`. Only its own API carries them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LoadOptions = tuple[tuple[str, float], ...]
"""Those that a request gives, by name; () stands for the server's defaults."""

RELOADING: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)


def load_options(document: Mapping[str, object]) -> LoadOptions:
    """What a request's body asks the model to be loaded with; numbers and booleans only."""
    options = document.get("options")
    given = options if isinstance(options, dict) else {}
    found = [(name, given[name]) for name in RELOADING if name in given]
    if "shift" in document:
        found.append(("shift", document["shift"]))
    return tuple([(name, value) for name, value in found if isinstance(value, int | float)])
