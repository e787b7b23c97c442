"""The lists of models: all that the key may use, on any backend, straight from the catalog.

No backend is asked, so a list takes microseconds and works while backends are down. Entries are the
backends' own, unknown fields included. A key that may manage can name one backend and read its
lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Catalog, ModelEntry
from ollama_gateway.errors import Forbidden, Unavailable
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.flow.target import backend_override
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import Principal
from ollama_gateway.reasons import Reason
from ollama_gateway.server.encoded import EncodedLists
from ollama_gateway.server.routes import Handler
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.names import ModelName

TEXT_HEADERS: Headers = [(b"content-type", b"text/plain; charset=utf-8")]
NATIVE_HEADERS: Headers = [(b"content-type", b"application/json; charset=utf-8")]
OPENAI_HEADERS: Headers = [(b"content-type", b"application/json")]


@attrs.frozen
class Listings:
    """Handlers of the `read` routes that the catalog answers."""

    keys: KeyCache
    names: Resolver
    native: EncodedLists = attrs.field(init=False)
    loaded: EncodedLists = attrs.field(init=False)
    cards: EncodedLists = attrs.field(init=False)

    @native.default
    def _native(self) -> EncodedLists:
        return EncodedLists(_json, _native_list, self.names)

    @loaded.default
    def _loaded(self) -> EncodedLists:
        return EncodedLists(_json, _native_list)

    @cards.default
    def _cards(self) -> EncodedLists:
        return EncodedLists(_card, _card_list, self.names)

    @property
    def backends(self) -> Backends:
        """The backends whose models are listed."""
        return self.names.backends

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by path."""
        return {
            "/": self.root,
            "/api/tags": self.tags,
            "/api/ps": self.running,
            "/api/version": self.version,
            "/api/status": self.status,
            "/api/experimental/model-recommendations": self.recommendations,
            "/v1/models": self.models,
        }

    async def root(self, ask: Ask) -> None:
        """Answer `GET|HEAD /`, by which clients find out that an Ollama is there; needs no key.

        If a GET names a backend, that backend must be up, and the request needs a key. The CLI
        begins with HEAD, whose answer has no text, so its next request gets the error.
        """
        if ask.backend_overrides and ask.endpoint.method != "HEAD":
            await self._view(ask)
        await ask.downstream.respond(200, TEXT_HEADERS, b"Ollama is running")

    async def tags(self, ask: Ask) -> None:
        """Answer `GET /api/tags`: the models, newest first."""
        principal, catalog = await self._view(ask)
        body = await self._lists(catalog, self.native).body(catalog.models, principal)
        await ask.downstream.respond(200, NATIVE_HEADERS, body)

    async def running(self, ask: Ask) -> None:
        """Answer `GET /api/ps`: the models that are loaded on any backend."""
        principal, catalog = await self._view(ask)
        body = await self._lists(catalog, self.loaded).body(catalog.running, principal)
        await ask.downstream.respond(200, NATIVE_HEADERS, body)

    async def version(self, ask: Ask) -> None:
        """Answer `GET /api/version`: the lowest version of the backends that are up.

        If none is up, the last known version.
        """
        _, catalog = await self._view(ask)
        version = catalog.version or self.backends.last_version
        if version is None:
            raise Unavailable
        await ask.downstream.respond(200, NATIVE_HEADERS, _json({"version": version}))

    async def status(self, ask: Ask) -> None:
        """Answer `GET /api/status`: whether Ollama's cloud may be used; its CLI's menu asks."""
        principal, _ = await self._view(ask)
        has_cloud = principal.may_search()
        cloud = {"disabled": not has_cloud, "source": "none" if has_cloud else "config"}
        await ask.downstream.respond(200, NATIVE_HEADERS, _json({"cloud": cloud}))

    async def recommendations(self, ask: Ask) -> None:
        """Answer `GET /api/experimental/model-recommendations`: empty, so models are listed."""
        await self._view(ask)
        await ask.downstream.respond(200, NATIVE_HEADERS, _json({"recommendations": []}))

    async def models(self, ask: Ask) -> None:
        """Answer `GET /v1/models`: the list of `/api/tags` in OpenAI's shape (null when empty)."""
        principal, catalog = await self._view(ask)
        body = await self._lists(catalog, self.cards).body(catalog.models, principal)
        await ask.downstream.respond(200, OPENAI_HEADERS, body)

    def _lists(self, catalog: Catalog, kept: EncodedLists) -> EncodedLists:
        """Return the lists to use: those that are kept are of the catalog of all backends."""
        if catalog is self.backends.catalog:
            return kept
        return EncodedLists(kept.encode, kept.wrap)

    async def _view(self, ask: Ask) -> tuple[Principal, Catalog]:
        """Return the principal and the catalog: of all backends, or of the one that is named.

        Raises Unauthorized, Forbidden, BadRequest, and Unavailable if the named backend is down.
        """
        principal = ask.caller = await self.keys.identify(ask.credential)
        if not principal.may_call(ask.endpoint.group):
            raise Forbidden(reason=Reason.ENDPOINT_NOT_ALLOWED)
        only = backend_override(principal, ask, self.backends)
        if only is None:
            return principal, self.backends.catalog
        if only.listing is None or not only.is_up:
            raise Unavailable
        return principal, Catalog.union([(only.name, only.listing)])


def _native_list(entries: bytes) -> bytes:
    return b'{"models":[' + entries + b"]}"


def _card_list(cards: bytes) -> bytes:
    """Return the list; Ollama's is null if it has no entry."""
    data = b"[" + cards + b"]" if cards else b"null"
    return b'{"object":"list","data":' + data + b"}\n"


def _card(entry: ModelEntry) -> bytes:
    return _json(
        {
            "id": entry["name"],
            "object": "model",
            "created": _unix_time(entry.get("modified_at")),
            "owned_by": ModelName.parse(entry["name"]).namespace,
        }
    )


def _unix_time(text: object) -> int:
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except (ValueError, OverflowError):
        return 0


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
