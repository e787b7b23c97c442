"""`POST /v1/messages/count_tokens`: the gateway answers itself, with Ollama's own estimate.

Ollama has no such route, but Claude's clients call it before every turn. No backend is asked and no
model runs, so it leaves no audit record: else half of the audit log would be estimates that cost
nothing. Its only limit is how many a key may have at once. It needs the right to the model, as
`/v1/messages` does.
"""

from __future__ import annotations

import anyio
import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends, ModelDown, ModelUnknown
from ollama_gateway.errors import BadRequest, ModelForbidden
from ollama_gateway.flow.admission import check_remote, may_call
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.target import backend_override
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.key import Principal
from ollama_gateway.limits.at_once import AtOnce
from ollama_gateway.reasons import Reason
from ollama_gateway.turns import in_turns
from ollama_gateway.wire import body as json_body
from ollama_gateway.wire.counting import estimated_tokens
from ollama_gateway.wire.dialects.reading import one_line
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import fields_of
from ollama_gateway.wire.names import ModelName

JSON: Headers = [(b"content-type", b"application/json")]


@attrs.frozen
class Counting:
    """Serves token counts."""

    keys: KeyCache
    backends: Backends
    at_once: AtOnce

    async def count(self, ask: Ask) -> None:
        """Answer `{"input_tokens": N}`; raises what `/v1/messages` raises before a race."""
        principal = await self.keys.identify(ask.credential)
        may_call(principal, ask)
        only = backend_override(principal, ask, self.backends)
        with self.at_once.place(principal.key_id):
            body = await ask.downstream.body(principal.key_id)
            document = await in_turns(fields_of(body))
            self._authorise(principal, json_body.model_of(document), only)
            if not isinstance(json_body.lookup(document, "messages"), list):
                raise BadRequest("messages is required", reason=Reason.INVALID_BODY)
            answer = one_line({"input_tokens": await in_turns(estimated_tokens(body, document))})
            await ask.downstream.respond(200, JSON, answer)

    def _authorise(self, principal: Principal, asked: str, only: Backend | None) -> None:
        model = ModelName.parse(asked)
        if not principal.may_use(model):
            raise ModelForbidden(asked, reason=Reason.MODEL_NOT_ALLOWED)
        check_remote(principal, self.backends, model, asked)
        try:
            self.backends.check(model, anyio.current_time(), only)
        except ModelDown:
            pass  # counting needs no backend
        except ModelUnknown:
            raise ModelForbidden(asked, reason=Reason.UNKNOWN_MODEL) from None
