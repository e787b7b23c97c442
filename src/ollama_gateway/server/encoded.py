"""Lists of models as JSON: each entry is encoded once, and each list once for keys of equal rights.

A list of 10,000 models takes 200 ms to encode, and a key may ask for it as often as it likes. So a
list is made in turns with other requests, and kept until the catalog changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import anyio
import attrs

from ollama_gateway.backends.catalog import ModelEntry, is_remote
from ollama_gateway.flow.admission import may_use_in_cloud
from ollama_gateway.keys.key import Principal
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.large import Steps
from ollama_gateway.wire.names import ModelName

MAX_KEPT: Final = 32 * 1024 * 1024
"""Bytes of lists that are kept of one shape; a longer list is made for each request."""


@attrs.frozen
class _Encoded:
    """An entry, and what is made of it once."""

    entry: ModelEntry = attrs.field(repr=False)
    name: ModelName
    text: bytes = attrs.field(repr=False)

    def is_open_to(self, principal: Principal) -> bool:
        """Return True if the key may use the model."""
        if not principal.may_use(self.name):
            return False
        return not is_remote(self.entry) or may_use_in_cloud(principal, self.name)


@attrs.define(eq=False)
class EncodedLists:
    """The lists of one shape.

    Args:
        encode: returns an entry as JSON.
        wrap: returns the body of a list, given its entries with commas between them.

    """

    encode: Callable[[ModelEntry], bytes]
    wrap: Callable[[bytes], bytes]
    _models: Mapping[str, ModelEntry] | None = attrs.field(default=None, init=False)
    """The entries of which `_lists` are made."""
    _encoded: dict[str, _Encoded] = attrs.field(factory=dict, init=False)
    _lists: OrderedDict[tuple[str, ...], bytes] = attrs.field(factory=OrderedDict, init=False)
    """By the patterns of a key; the least recently used first."""
    _size: int = attrs.field(default=0, init=False)
    _making: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    async def body(self, models: Mapping[str, ModelEntry], principal: Principal) -> bytes:
        """Return the list of those models that the key may use, in their order."""
        if (found := self._found(models, principal)) is not None:
            return found
        async with self._making:
            if (found := self._found(models, principal)) is not None:
                return found
            made = self.wrap(await in_turns(self._joined(models, principal)))
            self._keep(models, principal, made)
            return made

    def _found(self, models: Mapping[str, ModelEntry], principal: Principal) -> bytes | None:
        if models is not self._models or principal.models not in self._lists:
            return None
        self._lists.move_to_end(principal.models)
        return self._lists[principal.models]

    def _joined(self, models: Mapping[str, ModelEntry], principal: Principal) -> Steps[bytes]:
        encoded, found = self._encoded, []
        self._encoded = {}
        for key, entry in models.items():
            known = encoded.get(key)
            if known is None or known.entry != entry:
                known = _Encoded(entry, ModelName.parse(entry["name"]), self.encode(entry))
            self._encoded[key] = known
            if known.is_open_to(principal):
                found.append(known.text)
            yield
        return b",".join(found)

    def _keep(self, models: Mapping[str, ModelEntry], principal: Principal, made: bytes) -> None:
        if models is not self._models:
            self._models, self._size = models, 0
            self._lists.clear()
        if len(made) > MAX_KEPT:
            return
        self._lists[principal.models] = made
        self._size += len(made)
        while self._size > MAX_KEPT:
            _, oldest = self._lists.popitem(last=False)
            self._size -= len(oldest)
