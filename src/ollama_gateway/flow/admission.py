"""Turn the bytes of a request into an authorised call; nothing else is served.

The checks, in order: the key has the endpoint's group (before the body is read); the body can be
read in exactly one way; the key may use the model that it names. A model that no backend hosts and
a model that the key may not use give the same error; only the log knows the difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.errors import Forbidden, SearchForbidden, UnsupportedEncoding
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.changing_heads import ChangingHeads
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.flow.load_request import NO_LOAD, LoadRequest, load_requests, with_estimate
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.asked import end_user_in
from ollama_gateway.models.aliases import Alias
from ollama_gateway.models.policies import LoadPolicies
from ollama_gateway.reasons import Reason
from ollama_gateway.turns import in_turns
from ollama_gateway.wire import body as json_body
from ollama_gateway.wire.bounds import Measure, measured, measured_inputs, with_generation
from ollama_gateway.wire.dialects import Shape
from ollama_gateway.wire.encoding import ZSTD
from ollama_gateway.wire.headers import Headers, content_coding, upstream_headers
from ollama_gateway.wire.identity import ConversationIdentity, conversation_of, readable
from ollama_gateway.wire.large import RequestBody, Steps, fields_of
from ollama_gateway.wire.load_options import LoadChange
from ollama_gateway.wire.loading import only_loads
from ollama_gateway.wire.names import ModelName
from ollama_gateway.wire.renaming import Renaming
from ollama_gateway.wire.searching import PASSES, wants_search, without_search
from ollama_gateway.wire.splicing import with_value

MODEL_FIELD: Final = ("model",)


@attrs.frozen
class ModelCall:
    """An authorised request to one model, which any backend that hosts it may serve."""

    endpoint: Endpoint
    model: ModelName
    requested_name: str
    """The name that is asked for, as the client wrote it."""
    streams: bool
    headers: Headers = attrs.field(repr=False)
    body: RequestBody = attrs.field(repr=False)
    measure: Measure | None = None
    """The sizes that bound its tokens; None where tokens are not limited or none are spent."""
    loads: Mapping[str, LoadRequest] = attrs.field(factory=dict)
    """What it asks of the load of each of its models, by the model's key."""
    hides_usage: bool = False
    """Whether the gateway alone asked for the usage that the stream reports."""
    parameter: str = ""
    """The path segment that the endpoint takes."""
    size: int = 0
    """Bytes of the body as the client sent it."""
    end_user: str | None = None
    """The end user that the body names, where the key says in which field."""
    lost_tools: bool = False
    """Whether tools that the key may not use were taken out of the body."""
    conversation: ConversationIdentity | None = None
    """The conversation that it belongs to, if any."""
    is_empty: bool = False
    """Whether it has nothing to embed, so Ollama answers with an empty list."""
    alias: Alias | None = None
    """The alias that is asked for, if it is one, with the models that the key may use."""

    @property
    def models(self) -> tuple[ModelName, ...]:
        """The models that may answer, the preferred one first."""
        return self.alias.models if self.alias is not None else (self.model,)

    @property
    def load(self) -> LoadRequest:
        """What it asks of the load of its model."""
        return self.loads.get(self.model.key, NO_LOAD)

    def among(self, models: Sequence[ModelName]) -> ModelCall:
        """Return the call with these of its models alone, at least one."""
        if self.alias is None:
            return self
        alias = attrs.evolve(self.alias, models=tuple(models))
        return attrs.evolve(self, model=models[0], alias=alias)

    def to(self, model: ModelName) -> ModelCall:
        """Return the call to one of its models."""
        return self if model is self.model else attrs.evolve(self, model=model)

    @property
    def shape(self) -> Shape:
        """Members of a good answer, which has at least one of them."""
        shape = self.endpoint.shape
        return {name: kind[0] for name, kind in shape.items()} if self.is_empty else shape

    @property
    def path(self) -> str:
        """The path at a backend."""
        if not self.parameter:
            return self.endpoint.path
        name = self.parameter if self.alias is None else quote(self.model.short, safe=":")
        return f"{self.endpoint.path}/{name}"

    def changed(self, change: LoadChange) -> tuple[str, ...]:
        """Return the names of what the gateway changed in the request for a backend."""
        return ("tools", *change.names) if self.lost_tools else change.names

    @property
    def may_write_unheard(self) -> bool:
        """Whether Ollama may generate tokens long before it sends any.

        It does for a whole answer, and for tool calls, which it sends once they are complete.
        """
        return not self.streams or (self.measure is not None and self.measure.tools > 0)

    def name_for(self, backend: Backend) -> str:
        """Return the model's name for a backend: the client's, or the backend's own spelling."""
        if self.alias is not None:
            return backend.spelling(self.model) or self.model.short
        if not self.endpoint.compares_case:
            return self.requested_name
        return backend.spelling(self.model) or self.requested_name

    def load_change(self, backend: Backend) -> LoadChange:
        """Return what this backend gets in place of the client's load options."""
        return self.load.change(self.model, backend)

    def body_for(self, backend: Backend, change: LoadChange) -> RequestBody:
        """Return the client's body, with the model's name for this backend and `change`."""
        name, body = self.name_for(backend), change.applied(self.body)
        if name == self.requested_name or self.parameter:
            return body
        return with_value(body, MODEL_FIELD, json.dumps(name))

    def renaming(self) -> Renaming | None:
        """Return the renaming of one answer to an alias; None where the client gets no such name.

        A description has no name, or is renamed once it is complete.
        """
        if self.alias is None or self.endpoint.is_rewritten:
            return None
        return Renaming(self.requested_name, self.endpoint.dialect.holds_name)

    def client_frames(self) -> Callable[[bytes], bytes]:
        """Return the function that makes of a frame what the client gets; empty if it gets none."""
        renaming = self.renaming()
        if renaming is None:
            return self.endpoint.dialect.without_usage if self.hides_usage else bytes
        if not self.hides_usage:
            return renaming.frame
        without_usage = self.endpoint.dialect.without_usage
        return lambda frame: renaming.frame(without_usage(frame))


def may_call(principal: Principal, ask: Ask) -> None:
    """Refuse a request by its head alone; raises Forbidden or UnsupportedEncoding."""
    if not principal.may_call(ask.endpoint.group):
        raise Forbidden(reason=Reason.ENDPOINT_NOT_ALLOWED)
    coding = content_coding(ask.headers)
    if coding and not (coding == ZSTD and ask.endpoint.decodes):
        raise UnsupportedEncoding


async def read_call(
    principal: Principal,
    ask: Ask,
    body: RequestBody,
    names: Resolver,
    policies: LoadPolicies | None = None,
    *,
    is_measured: bool,
    heads: ChangingHeads | None = None,
) -> ModelCall:
    """Read the body and authorise its request; raises BadRequest or Forbidden.

    Where a stream reports its usage only on request, the gateway asks for it even if the client
    did not.

    Without `policies` it loads no model; `heads` watches the heads of conversations.
    """
    document = await in_turns(fields_of(body))
    requested_name = json_body.model_of(document, legacy=ask.endpoint.has_legacy_name)
    default, inputs = ask.endpoint.streams_by_default, ask.endpoint.inputs
    streams = default is not None and json_body.wants_stream(document, default=default)
    model, alias = names.resolve(principal, requested_name)
    headers, size = upstream_headers(ask.headers), len(body)
    conversation = None
    if heads is not None and ask.endpoint.bounds:
        is_small = isinstance(body, bytes)
        fields = document if is_small else await in_turns(readable(body, document))
        conversation = conversation_of(principal.key_id, model.key, ask.headers, fields)
        if conversation is not None:
            heads.note(principal, conversation, fields)
    searches, body = await _searches(principal, ask.endpoint, document, body, model)
    passes = PASSES if searches else 1
    models = (model,) if alias is None else alias.models
    is_load = not any(one.cloud for one in models) and _only_loads(ask, document, body)
    is_measured = is_measured and not is_load
    measure = await in_turns(_measured(ask, document, body, passes)) if is_measured else None
    lost_tools = len(body) < size
    loads: Mapping[str, LoadRequest] = {}
    if policies is not None:
        may_manage = principal.may_call("manage")
        loads = load_requests(document, ask.endpoint, models, policies, may_manage, is_load)
    if any(load.needs_estimate for load in loads.values()):
        needed = measure
        if needed is None:
            needed = await in_turns(_measured(ask, document, body, passes))
        loads = with_estimate(loads, needed)
    hides = streams and not ask.endpoint.dialect.stream_has_usage(document)
    if hides:
        body = ask.endpoint.dialect.with_usage(body)
    return ModelCall(
        ask.endpoint,
        model,
        requested_name,
        streams,
        headers,
        body,
        measure=measure,
        loads=loads,
        hides_usage=hides,
        size=size,
        end_user=end_user_in(document, principal),
        lost_tools=lost_tools,
        conversation=conversation,
        is_empty=inputs is not None and not json_body.lookup(document, inputs),
        alias=alias,
    )


async def _searches(
    principal: Principal,
    endpoint: Endpoint,
    document: dict[str, object],
    body: RequestBody,
    model: ModelName,
) -> tuple[bool, RequestBody]:
    """Return whether the request makes Ollama search the web, and its body.

    For a key without that right the body comes back without its search tools; raises
    SearchForbidden where they cannot be taken out.
    """
    has_none = isinstance(body, bytes) and not json_body.lookup(document, "tools")
    if has_none or not endpoint.searches or not await in_turns(wants_search(body)):
        return False, body
    if principal.may_search():
        return True, body
    reduced = without_search(body, document)
    if reduced is None:
        raise SearchForbidden(model.short)
    return False, reduced


def _only_loads(ask: Ask, document: dict[str, object], body: RequestBody) -> bool:
    """Return whether the request only loads or unloads a model, and so spends no tokens.

    A large body never counts as such: `document` lacks its long values.
    """
    if not (isinstance(body, bytes) and ask.endpoint.loads):
        return False
    return only_loads(document, in_parts=ask.endpoint.content_in_parts)


def _measured(
    ask: Ask, document: dict[str, object], body: RequestBody, passes: int
) -> Steps[Measure]:
    if ask.endpoint.inputs is not None:
        return measured_inputs(body, document, ask.endpoint.inputs)
    return measured(body, document, ask.endpoint.bounds, passes)


def bound_answer(call: ModelCall, generation: int | None) -> ModelCall:
    """Return the call with its answer bounded to `generation` tokens; None leaves it as it is.

    A body that already has this bound stays unchanged. Raises BadRequest where the bound cannot be
    written.
    """
    if generation is None or not call.endpoint.bounds:
        return call
    if call.measure is not None and call.measure.written == generation:
        return call
    overriding = call.measure.overriding if call.measure is not None else ()
    body = with_generation(call.body, call.endpoint.bounds[0], generation, overriding)
    return attrs.evolve(call, body=body)
