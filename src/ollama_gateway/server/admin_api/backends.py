"""Operations on backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio
import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.pausing import PausesBroken
from ollama_gateway.control.actor import Actor
from ollama_gateway.control.backends import backend_document, backend_named
from ollama_gateway.control.paging import page_after
from ollama_gateway.control.pausing import PauseControl
from ollama_gateway.control.shapes import (
    Fields,
    Flag,
    Integer,
    MapOf,
    Number,
    OrNull,
    Text,
    page_of,
)
from ollama_gateway.errors import Unavailable
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.storage.batcher import Runner

BREAKER: Final = Text("Whether attempts are made.", ("closed", "half-open", "open"))
OF_MODEL: Final = Fields(
    {
        "warm": Flag("Whether it is loaded."),
        "breaker": BREAKER,
        "failing": Flag("Whether its last attempt here failed."),
        "rests_s": Number("Seconds for which it gets no requests, as it was full."),
        "first_chunk_ms": OrNull(Number("The usual time to the first chunk.")),
        "learned_capacity": Integer("Requests at once, as its streams have shown."),
        "prefill_tokens_per_s": OrNull(Number("Tokens of a prompt that it reads in a second.")),
    }
)
BACKEND: Final = Fields(
    {
        "name": Text(),
        "url": Text(),
        "priority": Integer("1 is asked first.", least=-(2**53)),
        "slots": Integer("Requests at once; 0 is unlimited."),
        "up": Flag("Whether it answers polls."),
        "paused": Flag("Whether it gets no new requests."),
        "in_flight": Integer("Requests that are running there."),
        "breaker": BREAKER,
        "by_model": MapOf(OF_MODEL, "What was measured of each model, by its key."),
        "error": OrNull(Text("Why the last poll failed.")),
        "failed_polls": Integer("Polls in a row."),
        "version": OrNull(Text("Ollama's.")),
        "models": Integer("Models that it lists."),
        "loaded": Integer("Models in its memory."),
    }
)
REASON: Final = Fields({"reason": Text("Why, in your own words.", longest=500)}, needed=())

Change = Callable[[str, Sequence[str], Actor, str | None], frozenset[str]]


@attrs.frozen
class BackendOperations:
    """Operations on the backends of a gateway."""

    backends: Backends
    pausing: PauseControl
    put_in_force: Callable[[frozenset[str]], None]
    """Pauses exactly these backends in this process."""
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        changing = {"takes": REASON, "is_body_optional": True}
        return [
            Operation(
                "GET",
                "/backends",
                "viewer",
                "List backends, the preferred one first.",
                self._list,
                page_of(BACKEND),
                query=PAGING,
            ),
            Operation("GET", "/backends/{name}", "viewer", "Get a backend.", self._get, BACKEND),
            Operation(
                "POST",
                "/backends/{name}/pause",
                "operator",
                "Send no new requests to a backend, also after restarts.",
                self._pause,
                BACKEND,
                **changing,  # type: ignore[arg-type]  # two of its types
            ),
            Operation(
                "POST",
                "/backends/{name}/resume",
                "operator",
                "Send requests to a paused backend again.",
                self._resume,
                BACKEND,
                **changing,  # type: ignore[arg-type]
            ),
            Operation(
                "POST",
                "/backends/{name}/drain",
                "operator",
                "Pause a backend; it is drained once `in_flight`, which GET tells, is 0.",
                self._pause,
                BACKEND,
                status=202,
                **changing,  # type: ignore[arg-type]
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        numbered = list(enumerate(self.backends.all))
        page = page_after(
            numbered,
            lambda one: (one[1].priority, one[1].name),
            call.query.get("cursor"),
            call.limit,
            lambda one: self._document(one[1]),
        )
        return AdminReply(page.document())

    async def _get(self, call: AdminCall) -> AdminReply:
        return AdminReply(self._document(backend_named(self.backends, call.path["name"])))

    async def _pause(self, call: AdminCall) -> AdminReply:
        return await self._changed(call, self.pausing.pause)

    async def _resume(self, call: AdminCall) -> AdminReply:
        return await self._changed(call, self.pausing.resume)

    async def _changed(self, call: AdminCall, change: Change) -> AdminReply:
        """Change the file and follow it; the other gateways of its directory do in a second."""
        backend = backend_named(self.backends, call.path["name"])
        known = [one.name for one in self.backends.all]
        reason = (call.document or {}).get("reason")
        try:
            names = await self.runner(lambda: change(backend.name, known, call.actor, reason))
        except PausesBroken as error:
            raise Unavailable(f"nothing was changed: {error}") from None
        self.put_in_force(names)
        return AdminReply(self._document(backend))

    def _document(self, backend: Backend) -> dict[str, object]:
        return backend_document(backend, anyio.current_time())
