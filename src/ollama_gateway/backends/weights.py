"""Tell which models of a backend have the same weights; Ollama loads such models as one.

Its runners are kept by the path of the blob with the weights (server/sched.go). A copy has the
digest of its original, and a model made `from` another names that as its `parent_model`. Models
made from the same file have neither in common: only `/api/show` names the blob of each. It is asked
of models that look alike in `/api/tags` and are not known to be the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from ollama_gateway.backends.catalog import Listing, ModelEntry, is_remote
from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.names import ModelName

MAX_LINEAGE: Final = 10
"""Steps from a model to the one whose weights it uses."""
MAX_COMPARED: Final = 500
"""Models of one backend that are compared; it takes about 5 ms."""
_LOOK: Final = ("format", "family", "parameter_size", "quantization_level")
"""The details that models of the same weights have in common."""
_FROM: Final = re.compile(
    r'(?m)^FROM[ \t]++"?(?:[^\n"]*[\\/])?(sha256[-:][0-9a-f]{64})"?[ \t]*$', re.ASCII
)


def weights_of(listing: Listing, key: str, blobs: Mapping[str, str]) -> str:
    """Return a name for a model's weights.

    Args:
        listing: the backend's.
        key: the model's.
        blobs: by digest of a model, what `blob_in` found in its description.

    """
    entry = None
    for _ in range(MAX_LINEAGE):
        entry = listing.models.get(key) or listing.running.get(key)
        if entry is None:
            return key
        if blob := blobs.get(entry["digest"]):
            return blob
        parent = _parent_of(entry)
        if parent is None or parent == key:
            break
        key = parent
    return key if entry is None else str(entry["digest"])


def unclear_models(listing: Listing, blobs: Mapping[str, str]) -> Iterator[ModelEntry]:
    """Yield the models to ask for: they look alike, and no description was read of them yet."""
    by_look: dict[tuple[str, ...], dict[str, ModelEntry]] = {}
    for key, entry in islice(listing.models.items(), MAX_COMPARED):
        if is_remote(entry):
            continue
        weights = weights_of(listing, key, blobs)
        alike = by_look.setdefault(_look_of(entry), {})
        if weights not in alike or entry["digest"] == weights:
            alike[weights] = entry
    for alike in by_look.values():
        if len(alike) > 1:
            yield from (entry for entry in alike.values() if entry["digest"] not in blobs)


def blob_in(description: object) -> str:
    """Return the blob that an answer to `/api/show` names; empty if it names none."""
    modelfile = description.get("modelfile") if isinstance(description, dict) else None
    found = _FROM.search(modelfile) if isinstance(modelfile, str) else None
    return found[1] if found else ""


def _look_of(entry: ModelEntry) -> tuple[str, ...]:
    details = entry.get("details")
    values = (details.get(name) for name in _LOOK) if isinstance(details, dict) else ()
    return tuple(value if isinstance(value, str) else "" for value in values)


def _parent_of(entry: ModelEntry) -> str | None:
    """Return the key of the model from which this one was made."""
    details = entry.get("details")
    parent = details.get("parent_model") if isinstance(details, dict) else None
    if not isinstance(parent, str) or not parent:
        return None
    try:
        return ModelName.parse(parent).key
    except BadRequest:  # older versions name a file
        return None
