"""`POST /v1/messages/count_tokens`: the gateway answers itself, with Ollama's own estimate.

Ollama has no such route, but Claude's clients call it before every turn. No backend is asked and no
model runs, so it leaves no audit record: else half of the audit log would be estimates that cost
nothing. Its only limit is how many a key may have at once. It needs the right to the model, as
`/v1/messages` does.
"""

from __future__ import annotations

from contextlib import suppress

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.errors import BadRequest, Unavailable
from ollama_gateway.flow.admission import may_call
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.resolving import Resolver
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

JSON: Headers = [(b"content-type", b"application/json")]


@attrs.frozen
class Counting:
    """Serves token counts."""

    keys: KeyCache
    names: Resolver
    at_once: AtOnce

    async def count(self, ask: Ask) -> None:
        """Answer `{"input_tokens": N}`; raises what `/v1/messages` raises before a race."""
        principal = ask.caller = await self.keys.identify(ask.credential)
        may_call(principal, ask)
        only = backend_override(principal, ask, self.names.backends)
        with self.at_once.place(principal.key_id):
            body = await ask.downstream.body(principal.key_id)
            document = await in_turns(fields_of(body))
            self._check(principal, json_body.model_of(document), only)
            if not isinstance(json_body.lookup(document, "messages"), list):
                raise BadRequest("messages is required", reason=Reason.INVALID_BODY)
            answer = one_line({"input_tokens": await in_turns(estimated_tokens(body, document))})
            await ask.downstream.respond(200, JSON, answer)

    def _check(self, principal: Principal, asked: str, only: Backend | None) -> None:
        """Raise BadRequest or ModelForbidden unless the key may ask a model of this name."""
        model, alias = self.names.resolve(principal, asked)
        # Counting needs no backend.
        with suppress(Unavailable):
            self.names.served(alias.models if alias is not None else (model,), asked, only)
