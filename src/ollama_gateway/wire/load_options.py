"""The options of a request that make Ollama reload a model when they differ from the last ones.

Source: `needsReload` in Ollama's server/sched.go. Only Ollama's own API has these options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LoadOptions = tuple[tuple[str, float], ...]
"""The options that a request sets, by name; () leaves all to the server's defaults."""

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
    """Return the load options in a request's body; only numbers and booleans count."""
    options = document.get("options")
    given = options if isinstance(options, dict) else {}
    found = [(name, given[name]) for name in RELOADING if name in given]
    if "shift" in document:
        found.append(("shift", document["shift"]))
    return tuple([(name, value) for name, value in found if isinstance(value, int | float)])
