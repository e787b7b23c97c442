"""The lists that clients read: the union of what this key may use, straight from the catalog.

No backend is asked, so they answer in microseconds and whatever is down. Entries are the
backends' own, unknown fields included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Entry
from ollama_gateway.errors import Forbidden, Unavailable
from ollama_gateway.flow.ask import Ask, Headers
from ollama_gateway.flow.exchange import Keys, Principal
from ollama_gateway.server.routes import Handler
from ollama_gateway.wire.names import ModelName

TEXT: Headers = [(b"content-type", b"text/plain; charset=utf-8")]
NATIVE: Headers = [(b"content-type", b"application/json; charset=utf-8")]
OPENAI: Headers = [(b"content-type", b"application/json")]


@attrs.frozen
class Listings:
    """Handlers of the `read` routes that the catalog answers."""

    keys: Keys
    backends: Backends

    def handlers(self) -> Mapping[str, Handler]:
        """By path; a trailing slash means one more segment."""
        return {
            "/": self.root,
            "/api/tags": self.tags,
            "/api/ps": self.running,
            "/api/version": self.version,
            "/v1/models": self.models,
            "/v1/models/": self.model,
        }

    async def root(self, ask: Ask) -> None:
        """`GET|HEAD /`: how clients find out that an Ollama is there; needs no key."""
        await ask.downstream.respond(200, TEXT, b"Ollama is running")

    async def tags(self, ask: Ask) -> None:
        """`GET /api/tags`: the models, newest first."""
        entries = list(self._open_to(await self._reader(ask), self.backends.catalog.models))
        await ask.downstream.respond(200, NATIVE, _json({"models": entries}))

    async def running(self, ask: Ask) -> None:
        """`GET /api/ps`: the models that are loaded anywhere."""
        entries = list(self._open_to(await self._reader(ask), self.backends.catalog.running))
        await ask.downstream.respond(200, NATIVE, _json({"models": entries}))

    async def version(self, ask: Ask) -> None:
        """`GET /api/version`: the lowest among live backends, the last known when none is."""
        await self._reader(ask)
        version = self.backends.catalog.version or self.backends.last_version
        if version is None:
            raise Unavailable
        await ask.downstream.respond(200, NATIVE, _json({"version": version}))

    async def models(self, ask: Ask) -> None:
        """`GET /v1/models`: the same list as tags, in OpenAI's shape (null when empty)."""
        entries = self._open_to(await self._reader(ask), self.backends.catalog.models)
        data = [_card(entry["name"], entry) for entry in entries]
        body = _json({"object": "list", "data": data or None}) + b"\n"
        await ask.downstream.respond(200, OPENAI, body)

    async def model(self, ask: Ask) -> None:
        """`GET /v1/models/{id}`: one card, its id as the client wrote it."""
        principal = await self._reader(ask)
        name = ModelName.parse(ask.parameter)
        entry = self.backends.catalog.models.get(name.key)
        if entry is None or not principal.may_use(name):
            raise Forbidden(reason="unknown_model" if entry is None else "model_not_allowed")
        await ask.downstream.respond(200, OPENAI, _json(_card(ask.parameter, entry)) + b"\n")

    async def _reader(self, ask: Ask) -> Principal:
        principal = await self.keys.identify(ask.credential)
        if not principal.may_call(ask.endpoint.group):
            raise Forbidden(reason="endpoint_not_allowed")
        return principal

    def _open_to(self, principal: Principal, entries: Mapping[str, Entry]) -> Iterator[Entry]:
        for entry in entries.values():
            if principal.may_use(ModelName.parse(entry["name"])):
                yield entry


def _card(name: str, entry: Entry) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": _unix_time(entry.get("modified_at")),
        "owned_by": ModelName.parse(entry["name"]).namespace,
    }


def _unix_time(text: object) -> int:
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except (ValueError, OverflowError):
        return 0


def _json(value: dict[str, object] | Iterable[object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
