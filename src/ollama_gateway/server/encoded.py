"""Lists of models as JSON: each entry is encoded once, and each list once for keys of equal rights.

A list of 10,000 models takes 200 ms to encode, and a key may ask for it as often as it likes. So a
list is made in turns with other requests, and kept until the catalog changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import anyio
import attrs

from ollama_gateway.backends.catalog import ModelEntry, is_remote
from ollama_gateway.flow.resolving import Resolver, may_reach
from ollama_gateway.keys.key import Principal
from ollama_gateway.models.aliases import Aliases
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.large import Steps
from ollama_gateway.wire.names import ModelName

_Rights: TypeAlias = tuple[tuple[str, ...], Aliases]
MAX_KEPT: Final = 32 * 1024 * 1024
"""Bytes of lists that are kept of one shape; a longer list is made for each request."""


@attrs.frozen
class _Encoded:
    """An entry and its encodings, each made once."""

    entry: ModelEntry = attrs.field(repr=False)
    name: ModelName
    text: bytes = attrs.field(repr=False)

    def is_open_to(self, principal: Principal) -> bool:
        """Return True if the key may use the model."""
        return may_reach(principal, self.name, is_remote=is_remote(self.entry), may_use_alias=False)


@attrs.define(eq=False)
class EncodedLists:
    """The lists of one shape.

    Args:
        encode: returns an entry as JSON.
        wrap: returns the body of a list, given its entries with commas between them.
        names: whose exact aliases are listed behind the models, with the details of a model that
            answers to them; None for a list without aliases.

    """

    encode: Callable[[ModelEntry], bytes]
    wrap: Callable[[bytes], bytes]
    names: Resolver | None = None
    _models: Mapping[str, ModelEntry] | None = attrs.field(default=None, init=False)
    """The entries of which `_lists` are made."""
    _encoded: dict[str, _Encoded] = attrs.field(factory=dict, init=False)
    _lists: OrderedDict[_Rights, bytes] = attrs.field(factory=OrderedDict, init=False)
    """By the rights of a key; the least recently used first."""
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
        rights = principal.models, principal.aliases
        if models is not self._models or rights not in self._lists:
            return None
        self._lists.move_to_end(rights)
        return self._lists[rights]

    def _joined(self, models: Mapping[str, ModelEntry], principal: Principal) -> Steps[bytes]:
        encoded, found = self._encoded, []
        self._encoded = {}
        aliases = self._exact_aliases(principal)
        for key, entry in models.items():
            known = encoded.get(key)
            if known is None or known.entry != entry:
                known = _Encoded(entry, ModelName.parse(entry["name"]), self.encode(entry))
            self._encoded[key] = known
            if key not in aliases and known.is_open_to(principal):
                found.append(known.text)
            yield
        for name in aliases.values():
            if (shown := self._of_alias(name, models, principal)) is not None:
                found.append(self.encode(shown))
            yield
        return b",".join(found)

    def _exact_aliases(self, principal: Principal) -> dict[str, str]:
        """Return the exact aliases of the key and of the settings, by their model keys."""
        if self.names is None:
            return {}
        both = {**self.names.aliases.exact, **principal.aliases.exact}
        return {key: alias.name for key, alias in both.items()}

    def _of_alias(
        self, alias: str, models: Mapping[str, ModelEntry], principal: Principal
    ) -> ModelEntry | None:
        """Return the entry of an alias: that of its first model that is listed, if any."""
        assert self.names is not None  # noqa: S101 - as `_exact_aliases` has found it
        name = ModelName.parse(alias)
        allowed = self.names.allowed(principal, name, self.names.alias_of(principal, name))
        entry = next((models[model.key] for model in allowed if model.key in models), None)
        return entry and {**entry, "name": alias, "model": alias}

    def _keep(self, models: Mapping[str, ModelEntry], principal: Principal, made: bytes) -> None:
        if models is not self._models:
            self._models, self._size = models, 0
            self._lists.clear()
        if len(made) > MAX_KEPT:
            return
        self._lists[principal.models, principal.aliases] = made
        self._size += len(made)
        while self._size > MAX_KEPT:
            _, oldest = self._lists.popitem(last=False)
            self._size -= len(oldest)
