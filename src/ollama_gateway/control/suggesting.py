"""What to say of a name that is not known: the one that was probably meant, and which there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown
from ollama_gateway.suggestions import did_you_mean

MAX_NAMES: Final = 20
"""Names that a line lists; it counts the others."""


def unknown_backend(name: str, known: Sequence[str]) -> NoSuchThing:
    """Return the error for a backend that the settings do not have."""
    near = did_you_mean(name, known)
    return NoSuchThing(f"no backend is named {shown(name)}{near}; there are: {_listed(known)}")


def unknown_model(name: str, backend: str, known: Sequence[str]) -> NoSuchThing:
    """Return the error for a model that a backend does not list."""
    near = did_you_mean(name, known)
    return NoSuchThing(f"backend {printable(backend)} has no model {shown(name)}{near}")


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(map(printable, names[:MAX_NAMES]))
    more = len(names) - MAX_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
