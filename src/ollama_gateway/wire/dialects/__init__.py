"""The APIs that Ollama speaks, behind one interface; one file for each."""

from ollama_gateway.wire.dialects.dialect import Dialect
from ollama_gateway.wire.dialects.reading import ORDINARY, Reading, ReportedUsage, Shape

__all__ = ["ORDINARY", "Dialect", "Reading", "ReportedUsage", "Shape"]
