"""The description of one model, from a backend: `/api/show` and `/v1/models/{id}`, with a cache.

Such a request takes the path of inference and fails over, but it is slotless and leaves no audit
record, and a key may have only a few at once. The cache key holds all that an answer depends on:
the model's digest and Ollama's version at the backend, and the request's path and body. One client
gets different answers (`GitHubCopilotChat/` in `User-Agent` changes `general.basename`;
server/routes.go), so the cache key says whether it is that client. Models that no backend lists,
such as cloud models, are not cached.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from urllib.parse import quote, unquote

import attrs

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.evaluation import RouteRequest, evaluate, in_order
from ollama_gateway.errors import NotFound
from ollama_gateway.flow.admission import ModelCall, may_call, read_call
from ollama_gateway.flow.answers import AnswerMemory
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.deadline import Deadline
from ollama_gateway.flow.exchange import Exchange
from ollama_gateway.flow.target import backend_override
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.limits.at_once import AtOnce
from ollama_gateway.reasons import Reason
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.headers import Headers, downstream_headers, upstream_headers
from ollama_gateway.wire.modelfile import with_name, without_places
from ollama_gateway.wire.names import ModelName
from ollama_gateway.wire.renaming import Renaming

COPILOT: Final = b"GitHubCopilotChat/"
MAX_CACHED_REQUEST: Final = 4096
"""Bytes of a request whose answer is cached, since the cache key holds the request."""

CacheKey = tuple[str, str, str, bytes, bool]


@attrs.frozen
class Shown:
    """A description, its model, and the name of the backend that gave it."""

    model: ModelName
    backend: str
    headers: Headers
    body: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class ShownCache:
    """A cache of descriptions that drops the least recently used first.

    Args:
        limit: bytes of all of them together. A description of more than an eighth is not cached
            (`verbose` asks for a model's whole vocabulary).

    """

    limit: int = 16 * 1024 * 1024
    _answers: OrderedDict[CacheKey, Shown] = attrs.field(factory=OrderedDict, init=False)
    _size: int = attrs.field(default=0, init=False)

    def get(self, key: CacheKey | None) -> Shown | None:
        """Return a cached description."""
        if key is None or key not in self._answers:
            return None
        self._answers.move_to_end(key)
        return self._answers[key]

    def put(self, key: CacheKey | None, shown: Shown) -> None:
        """Cache a description, if it is not too large."""
        if key is None or len(shown.body) > self.limit // 8:
            return
        if (old := self._answers.pop(key, None)) is not None:
            self._size -= _cost(key, old)
        self._answers[key] = shown
        self._size += _cost(key, shown)
        while self._size > self.limit:
            self._size -= _cost(*self._answers.popitem(last=False))


def _cost(key: CacheKey, shown: Shown) -> int:
    """Return its bytes, and about as many as Python needs around them."""
    return len(shown.body) + len(key[3]) + 1024


@attrs.frozen
class Showing:
    """Serves descriptions of one model.

    Args:
        exchange: the path of inference, whose parts it uses.
        at_once: limits how many such requests a key may have at once.
        cache: the descriptions of earlier requests.

    """

    exchange: Exchange
    at_once: AtOnce
    cache: ShownCache = attrs.field(factory=ShownCache)

    async def serve(self, ask: Ask) -> None:
        """Serve one request to its end; raises GatewayError."""
        principal = await self.exchange.keys.identify(ask.credential)  # 401
        async with self.exchange.ledger.record(principal, ask) as record:
            may_call(principal, ask)  # 403, 415
            only = backend_override(principal, ask, self.exchange.backends)  # 403, 400
            with self.at_once.place(principal.key_id):  # 429
                call = await self._read(principal, ask)  # 400, 403, 408, 413, 503
                shown = self._cached(principal, call, only)
                if shown is None:
                    shown = await self._ask(principal, ask, call, only, record)  # 403, 502, ...
                is_trusted = principal.may_call("manage")
                body = shown.body if is_trusted else await in_turns(without_places(shown.body))
                body = _renamed(body, call, shown.model)
                exposed = self.exchange.exposed(call.to(shown.model), shown.backend)
                with AnswerMemory(self.exchange.answers) as memory:
                    memory.take(len(body))
                    await ask.downstream.respond(200, shown.headers + exposed, body)

    def _cached(self, principal: Principal, call: ModelCall, only: Backend | None) -> Shown | None:
        """Return what the backend that would be asked now is known to answer."""
        for model in call.models:
            route = RouteRequest(model, principal.key_id, is_slotless=True, only=only)
            if found := in_order(evaluate(route, self.exchange.backends, clock.now())):
                return self.cache.get(_cache_key(call.to(model), found[0].backend))
        return None

    async def _ask(
        self,
        principal: Principal,
        ask: Ask,
        call: ModelCall,
        only: Backend | None,
        record: AuditRecord,
    ) -> Shown:
        call = self.exchange.available(call, only)
        candidates = self.exchange.candidates(principal, call, only)
        deadline = ask.arrived + self.exchange.deadlines.total
        with Deadline(deadline, "no backend answered in time", Reason.FIRST_CHUNK_TIMEOUT):
            async with self.exchange.race(candidates, call, ask, record) as winner:
                call = call.to(winner.slot.model)
                name, headers = winner.backend.name, downstream_headers(winner.headers)
                shown = Shown(call.model, name, headers, b"".join(winner.first))
                self.cache.put(_cache_key(call, winner.backend), shown)
                return shown

    async def _read(self, principal: Principal, ask: Ask) -> ModelCall:
        """Read and authorise the request.

        Raises BadRequest, Forbidden, NotFound, and the errors of reading a body.
        """
        names = self.exchange.names
        if not ask.endpoint.parameter:
            body = await ask.downstream.body(principal.key_id)
            return await read_call(principal, ask, body, names, is_measured=False)
        name = unquote(ask.parameter)
        if "/" in name:
            raise NotFound  # Ollama's router takes one segment
        model, alias = names.resolve(principal, name)
        return ModelCall(
            ask.endpoint,
            model,
            name,
            streams=False,
            headers=upstream_headers(ask.headers),
            body=b"",
            parameter=quote(name, safe=":"),
            alias=alias,
        )


def _renamed(body: bytes, call: ModelCall, model: ModelName) -> bytes:
    """Return a description with the name that was asked for, if that is an alias."""
    if call.alias is None:
        return body
    if call.parameter:
        return Renaming(call.requested_name, key="id").frame(body)
    return with_name(body, model.short, call.requested_name.strip())


def _cache_key(call: ModelCall, backend: Backend) -> CacheKey | None:
    entry = backend.listing.models.get(call.model.key) if backend.listing else None
    if backend.listing is None or entry is None:
        return None
    if not isinstance(call.body, bytes) or len(call.body) > MAX_CACHED_REQUEST:
        return None
    agents = [value for name, value in call.headers if name == b"user-agent"]
    is_copilot = any(agent.startswith(COPILOT) for agent in agents)
    return entry["digest"], backend.listing.version, call.path, call.body, is_copilot
