"""Operations on models: where they are, and what brings them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.control.actor import Actor
from ollama_gateway.control.backends import backend_named
from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.control.loading import HostedModel
from ollama_gateway.control.models import ModelView
from ollama_gateway.control.paging import DocumentPage, cursor_of, place_in
from ollama_gateway.control.pulling import Pull, pull_all
from ollama_gateway.control.recording import recorded
from ollama_gateway.control.shapes import (
    Anything,
    Fields,
    Flag,
    Integer,
    ListOf,
    MapOf,
    OrNull,
    Text,
    page_of,
)
from ollama_gateway.errors import BadRequest
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.models.policies import LoadPolicies
from ollama_gateway.server.admin_api.operation import (
    PAGING,
    AdminCall,
    AdminReply,
    Operation,
    SendLine,
)
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.names import ModelName

MAX_BACKENDS: Final = 1000
"""Backends that a pull may name."""
SIZE: Final = OrNull(Integer("Bytes.", most=2**63 - 1))
LOADED: Final = Fields(
    {
        "backend": Text(),
        "size": SIZE,
        "size_vram": SIZE,
        "context": OrNull(Integer("Tokens.", most=2**63 - 1)),
        "expires_at": OrNull(Text("When it will be unloaded, as the backend says.")),
    }
)
MODEL: Final = Fields(
    {
        "name": Text(),
        "size": SIZE,
        "digest": Text(),
        "modified_at": OrNull(Text()),
        "backends": ListOf(Text(), "Those that list it, the preferred one first."),
        "loaded": ListOf(LOADED, "Where it is in memory."),
        "digests": MapOf(Text(), "The digest of each backend, where they differ."),
        "aliases": ListOf(Text(), "Aliases that it answers to."),
        "hidden": Flag("Whether an alias of its name hides it."),
        "rules": OrNull(MapOf(Anything(), "The table `[[models]]` that holds for it.")),
    }
)
NAMED: Final = Fields({"model": Text(longest=500), "backend": Text(longest=500)})
PLACED: Final = Fields({"model": Text(), "backend": Text(), "loaded": Flag()})
RESULT: Final = Fields(
    {
        "backend": Text(),
        "ok": Flag(),
        "bytes": Integer(most=2**63 - 1),
        "error": OrNull(Text()),
    }
)
PROGRESS: Final = Fields(
    {
        "backend": Text(),
        "status": Text("As the backend says."),
        "completed": Integer("Bytes.", most=2**63 - 1),
        "total": Integer("Bytes, as far as they are known.", most=2**63 - 1),
        "done": Flag("Whether this backend's pull is over."),
        "error": OrNull(Text()),
        "results": ListOf(RESULT, "In the last line, which has nothing else: how each ended."),
    },
    needed=(),
)


@attrs.frozen
class ModelOperations:
    """Operations on the models of a gateway's backends."""

    view: Callable[[], ModelView]
    policies: Callable[[], LoadPolicies]
    """The operator's rules in force."""
    discovery: BackendDiscovery
    recorder: ChangeRecorder
    runner: Runner
    load_seconds: Callable[[], float]
    """Seconds that a load may take."""
    idle_seconds: Callable[[], float]
    """Seconds within which a pull must get on."""

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        pulled = Fields(
            {
                "model": Text("As for `ollama pull`.", longest=500),
                "backends": ListOf(Text(longest=500), "Names; all without it.", MAX_BACKENDS),
            },
            needed=("model",),
        )
        return [
            Operation(
                "GET",
                "/models",
                "viewer",
                "List the models of the backends that are up, by name.",
                self._list,
                page_of(MODEL),
                query=PAGING,
            ),
            Operation(
                "POST",
                "/models/pull",
                "operator",
                "Pull a model on backends and report the progress; leaving ends it.",
                self._pull,
                PROGRESS,
                takes=pulled,
                is_streamed=True,
            ),
            Operation(
                "POST",
                "/models/load",
                "operator",
                "Load a model into a backend's memory, and answer when it is there.",
                self._load,
                PLACED,
                takes=NAMED,
            ),
            Operation(
                "POST",
                "/models/unload",
                "operator",
                "Unload a model from a backend's memory once its requests have ended.",
                self._unload,
                PLACED,
                takes=NAMED,
            ),
        ]

    async def _list(self, call: AdminCall) -> AdminReply:
        after = place_in(call.query.get("cursor"), (str,))
        name = str(after[0]) if after else ""
        found = await in_turns(self.view().page(name, call.limit + 1))
        items, rest = found[: call.limit], found[call.limit :]
        following = cursor_of((items[-1]["name"],)) if rest else None
        return AdminReply(DocumentPage(items, following).document())

    async def _load(self, call: AdminCall) -> AdminReply:
        hosted = self._hosted(call)
        change = _change(call.actor, "load", hosted)
        async with recorded(self.recorder, change, self.runner):
            await hosted.load(self.policies(), self.load_seconds())
        return _placed(hosted, is_loaded=True)

    async def _unload(self, call: AdminCall) -> AdminReply:
        hosted = self._hosted(call)
        change = _change(call.actor, "unload", hosted)
        async with recorded(self.recorder, change, self.runner):
            await hosted.unload()
        return _placed(hosted, is_loaded=False)

    def _hosted(self, call: AdminCall) -> HostedModel:
        backend = backend_named(self.view().backends, call.document["backend"])
        return HostedModel.of(backend, call.document["model"])

    async def _pull(self, call: AdminCall) -> AdminReply:
        model: str = call.document["model"]
        try:
            ModelName.parse(model)
        except BadRequest as error:
            raise WrongInput([Problem("/model", error.message)]) from None
        backends = self.view().backends
        names = dict.fromkeys(call.document.get("backends") or [b.name for b in backends.all])
        chosen = [backend_named(backends, name) for name in names]
        return AdminReply(write=partial(self._write_progress, model, chosen, call.actor))

    async def _write_progress(
        self, model: str, backends: Sequence[Backend], actor: Actor, send: SendLine
    ) -> None:
        """Pull, and send a line for each progress and one for the end of all."""
        after: dict[str, Any] = {"backends": [backend.name for backend in backends]}
        change = OperatorChange(actor.name, "models.pull", model, None, after)

        async def report(pull: Pull) -> None:
            await send(pull.progress())

        async with recorded(self.recorder, change, self.runner):
            pulls = await pull_all(backends, model, self.idle_seconds(), report)
            after["pulled"] = [pull.backend for pull in pulls if pull.ok]
        done = [one for one, pull in zip(backends, pulls, strict=True) if pull.ok]
        await self.discovery.poll_new(done)
        await send({"results": [pull.result() for pull in pulls]})


def _change(actor: Actor, verb: str, hosted: HostedModel) -> OperatorChange:
    after = {"backend": hosted.backend.name, "loaded": verb == "load"}
    return OperatorChange(actor.name, f"models.{verb}", hosted.name, None, after)


def _placed(hosted: HostedModel, *, is_loaded: bool) -> AdminReply:
    return AdminReply({"model": hosted.name, "backend": hosted.backend.name, "loaded": is_loaded})
