"""What one request asks of the load of its model, and what the policy lets it have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import attrs

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.contexts import loaded_context
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.models.policies import UNCHANGED, LoadPolicies, LoadPolicy
from ollama_gateway.models.rules import CLIENT_CONTEXT, CLIENT_STAY
from ollama_gateway.wire.bounds import Measure
from ollama_gateway.wire.counting import BYTES_PER_TOKEN
from ollama_gateway.wire.load_options import AskedLoad, LoadChange, LoadOptions, asked_load
from ollama_gateway.wire.names import ModelName

NOTHING: Final = AskedLoad()
MEDIA_TOKENS: Final = 1024
"""Tokens of a picture, about."""

Unload = Literal["none", "everywhere", "ignored"]
"""How a request is served that does nothing but unload its model."""


@attrs.frozen
class LoadRequest:
    """A request's load options and its policy; the machine that serves it decides the rest."""

    asked: AskedLoad = NOTHING
    policy: LoadPolicy = UNCHANGED
    unload: Unload = "none"
    estimate: int = 0
    """Tokens of prompt and answer, about, where the request names no context."""
    touch: float | None = None
    """Seconds for which the model shall stay loaded afterwards, where the request cannot say so."""

    @classmethod
    def read(
        cls,
        document: dict[str, object],
        endpoint: Endpoint,
        policy: LoadPolicy,
        *,
        only_loads: bool,
    ) -> LoadRequest:
        """Return what a body asks for, on a route for inference or embeddings."""
        asked = asked_load(document)
        if not endpoint.takes_load_options:
            left = attrs.evolve(policy, num_ctx=CLIENT_CONTEXT, keep_alive=CLIENT_STAY)
            unnamed = attrs.evolve(asked, num_ctx=None, keep_alive=None)
            return cls(unnamed, left, touch=policy.touch)
        if not (only_loads and asked.keep_alive == 0):
            return cls(asked, policy)
        return (
            cls(asked, UNCHANGED, "everywhere")
            if policy.may_unload
            else cls(asked, policy, "ignored")
        )

    @property
    def needs_estimate(self) -> bool:
        """Whether the size of the request decides about its context."""
        return self.policy.num_ctx.kind == "loaded" and self.asked.num_ctx is None

    @property
    def unloads(self) -> bool:
        """Whether the model leaves the machine's memory after the answer."""
        return self.asked.keep_alive == 0 and self.policy.stay(0) is None

    @property
    def options(self) -> LoadOptions:
        """The load options that reach Ollama, as far as they do not depend on the machine."""
        return self.policy.options(self.asked)

    @property
    def context(self) -> int | None:
        """The tokens of context that the model must be loaded with; None if any will do."""
        return self.asked.num_ctx if self.policy.num_ctx.kind == "loaded" else None

    def change(self, model: ModelName, backend: Backend) -> LoadChange:
        """Return what a backend gets in place of the client's load options."""
        loaded, longest = loaded_context(backend, model), backend.context(model)
        return self.policy.change(self.asked, self.estimate, loaded, longest)


NO_LOAD: Final = LoadRequest()


def load_requests(
    document: dict[str, object],
    endpoint: Endpoint,
    models: Iterable[ModelName],
    policies: LoadPolicies,
    may_manage: bool,  # noqa: FBT001 - a right, named at the caller
    only_loads: bool,  # noqa: FBT001
) -> Mapping[str, LoadRequest]:
    """Return what a body asks of the load of each model, by its key, as policies and key allow."""
    return {
        model.key: LoadRequest.read(
            document,
            endpoint,
            policies.policy(model, may_manage=may_manage),
            only_loads=only_loads,
        )
        for model in models
    }


def with_estimate(loads: Mapping[str, LoadRequest], measure: Measure) -> Mapping[str, LoadRequest]:
    """Return them with the tokens that a request of this size needs."""
    estimate = estimated_need(measure)
    return {key: attrs.evolve(load, estimate=estimate) for key, load in loads.items()}


def estimated_need(measure: Measure) -> int:
    """Return about how many tokens of context a request needs, its answer as far as bounded."""
    if measure.inputs:
        return max(measure.inputs) // BYTES_PER_TOKEN
    prompt = measure.text // BYTES_PER_TOKEN + measure.media * MEDIA_TOKENS
    return prompt + (measure.asked or 0)
