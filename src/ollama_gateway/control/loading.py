"""Load a model into a backend's memory, or unload it, and wait until the backend says so.

Ollama loads for a request without a prompt, and unloads with `keep_alive` 0 (server/routes.go,
GenerateHandler). A model that only embeds refuses to generate even nothing, so it is asked to embed
nothing. A load gets the context and the stay that the operator's rules name for the model:
otherwise the next request would have it loaded anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

import anyio
import attrs
import httpx

from ollama_gateway.backends.backend import Backend
from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.control.pulling import beginning_of, refusal_in
from ollama_gateway.control.suggesting import unknown_model
from ollama_gateway.errors import BadRequest, Unavailable, UpstreamFailed, UpstreamTimeout
from ollama_gateway.models.policies import LoadPolicies
from ollama_gateway.printable import printable
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.keep_alive import keep_alive_text
from ollama_gateway.wire.load_options import AskedLoad
from ollama_gateway.wire.names import ModelName

UNLOAD_SECONDS: Final = 10.0
"""Seconds that a backend has for it: Ollama only notes it, and answers at once."""
OLLAMA: Final = OllamaDialect()
_JSON_TYPE: Final = [(b"content-type", b"application/json")]
_EMBEDS_ONLY: Final = "does not support generate"
"""In Ollama's refusal (server/routes.go, `scheduleRunner` with the capability completion)."""


@attrs.frozen
class HostedModel:
    """A model that a backend lists, and can load."""

    model: ModelName
    backend: Backend

    @classmethod
    def of(cls, backend: Backend, text: str) -> HostedModel:
        """Find a model by its name, in any spelling.

        Raises:
            WrongInput: the text is no name, or the model runs in Ollama's cloud.
            Unavailable: the backend is down.
            NoSuchThing: the backend does not list the model.

        """
        try:
            model = ModelName.parse(text)
        except BadRequest as error:
            raise WrongInput([Problem("/model", error.message)]) from None
        if backend.listing is None or not backend.is_up:
            message = f"backend {backend.name} is down"
            raise Unavailable(message, reason=Reason.BACKENDS_DOWN)
        if model.cloud or backend.is_remote(model):
            raise WrongInput([Problem("/model", "runs in Ollama's cloud: no backend loads it")])
        if model.key not in backend.listing.models:
            known = [str(entry["name"]) for entry in backend.listing.models.values()]
            raise unknown_model(text, backend.name, known)
        return cls(model, backend)

    @property
    def name(self) -> str:
        """The model's name as the backend spells it."""
        return self.backend.spelling(self.model) or self.model.short

    async def load(self, policies: LoadPolicies, seconds: float) -> None:
        """Load it, if it is not loaded; raises UpstreamFailed or UpstreamTimeout.

        `seconds` are those that the backend has for its answer: a large model takes minutes.
        """
        await self._ask(_rules_for(self.model, policies), seconds)
        self.backend.has_answered(self.model)
        self.backend.load_changed.set()

    async def unload(self) -> None:
        """Unload it once its requests have ended, if it is loaded; raises as `load`."""
        await self._ask({"keep_alive": 0}, UNLOAD_SECONDS)
        self.backend.load_changed.set()

    async def _ask(self, fields: Mapping[str, object], seconds: float) -> None:
        try:
            with anyio.fail_after(seconds):
                refusal = await self._refusal("/api/generate", fields)
                if refusal and _EMBEDS_ONLY in refusal:
                    refusal = await self._refusal("/api/embed", {"input": [], **fields})
        except TimeoutError:
            message = f"backend {self.backend.name} did not answer in {seconds:.0f} s"
            raise UpstreamTimeout(message, reason=Reason.FIRST_CHUNK_TIMEOUT) from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise self._failed("cannot be reached", Reason.CONNECT_FAILED) from None
        except httpx.TransportError:
            raise self._failed("broke off its answer", Reason.CONNECTION_BROKEN) from None
        if refusal:
            raise self._failed(f"refused: {refusal}", Reason.ERROR_AS_ANSWER)

    async def _refusal(self, path: str, fields: Mapping[str, object]) -> str | None:
        """Send a request and return why it was refused; None if it was not."""
        body = json.dumps({"model": self.name, "stream": False, **fields}).encode()
        request = self.backend.outgoing.request("POST", path, _JSON_TYPE, body)
        response = await self.backend.transport.handle_async_request(request)
        try:
            answer = await beginning_of(aiter(cast("httpx.AsyncByteStream", response.stream)))
        finally:
            await response.aclose()
        if response.status_code != HTTPStatus.OK:
            return refusal_in(response.status_code, answer)
        reading = OLLAMA.read_body(answer)
        if reading.is_garbled:
            raise self._failed("does not answer as an Ollama does", Reason.NOT_AN_OLLAMA)
        return printable(reading.error) if reading.error else None

    def _failed(self, what: str, reason: Reason) -> UpstreamFailed:
        return UpstreamFailed(f"backend {self.backend.name} {what}", reason=reason)


def _rules_for(model: ModelName, policies: LoadPolicies) -> dict[str, Any]:
    """Return the fields of a request that loads a model as the operator's rules say."""
    change = policies.policy(model, may_manage=True).change(AskedLoad(), 0, None, None)
    fields: dict[str, Any] = {}
    if change.num_ctx is not None:
        fields["options"] = {"num_ctx": change.num_ctx}
    if change.keep_alive:  # 0 would unload it
        fields["keep_alive"] = json.loads(keep_alive_text(change.keep_alive))
    return fields
