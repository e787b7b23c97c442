"""A faithful Ollama that needs no GPU and fails on request; start reading in `simulator.py`.

The names below are imported at their first use: `python -m` imports this package before its
`__main__`, which handles Ctrl-C during all other imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollama_gateway.simulator.exchange import Seen
    from ollama_gateway.simulator.figures import Figures
    from ollama_gateway.simulator.memory import memory_server
    from ollama_gateway.simulator.model import Call, Model
    from ollama_gateway.simulator.runners import Limits
    from ollama_gateway.simulator.script import Script
    from ollama_gateway.simulator.simulator import Simulator
    from ollama_gateway.simulator.streams import MemoryByteStream, memory_pair

__all__ = [
    "Call",
    "Figures",
    "Limits",
    "MemoryByteStream",
    "Model",
    "Script",
    "Seen",
    "Simulator",
    "memory_pair",
    "memory_server",
]

_MODULES = {
    "Call": "model",
    "Figures": "figures",
    "Limits": "runners",
    "MemoryByteStream": "streams",
    "Model": "model",
    "Script": "script",
    "Seen": "exchange",
    "Simulator": "simulator",
    "memory_pair": "streams",
    "memory_server": "memory",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
