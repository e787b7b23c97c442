"""A faithful Ollama that needs no GPU and fails on request; start reading in `simulator.py`."""

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
