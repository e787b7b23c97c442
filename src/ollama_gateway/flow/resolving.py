"""Resolve the name that a client asks for: the models that may answer, for its key.

A name is an alias of the key, or else an alias of the settings, or else a model. An exact alias
hides a model of its name. A pattern does not, where the key may use that model; where it may not,
the name is treated as if no model had it, so an answer does not tell whether one has.

The rule: a key reaches a model by the right to the model, or by the right to the alias. A model
that answers from Ollama's cloud always needs the right to that model in the cloud.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ollama_gateway import clock
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends, ModelDown, ModelUnknown
from ollama_gateway.errors import ModelForbidden, Unavailable
from ollama_gateway.keys.key import Principal
from ollama_gateway.models.aliases import NO_ALIASES, Alias, Aliases
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.names import ModelName


@attrs.frozen
class Resolver:
    """Knows the aliases of the settings, and the models of the backends."""

    backends: Backends
    aliases: Aliases = NO_ALIASES

    def resolve(self, principal: Principal, asked: str) -> tuple[ModelName, Alias | None]:
        """Return the model that is asked for or preferred, and the alias if the name is one.

        The alias has only those models that the key may use. Raises BadRequest for a text that is
        no name, and ModelForbidden if no model is left.
        """
        name = ModelName.parse(asked)
        alias = self.alias_of(principal, name)
        models = self.allowed(principal, name, alias)
        if not models:
            raise ModelForbidden(asked, reason=Reason.MODEL_NOT_ALLOWED)
        return models[0], alias and attrs.evolve(alias, models=models)

    def alias_of(self, principal: Principal, name: ModelName) -> Alias | None:
        """Return the alias that a name is for this key, if it is one."""
        for aliases in (principal.aliases, self.aliases):
            if not aliases.all:
                continue
            if (exact := aliases.exact.get(name.key)) is not None:
                return exact
            found = aliases.matching(name)
            if found is not None and not self._is_model(principal, name):
                return found
        return None

    def hides(self, principal: Principal, name: ModelName) -> bool:
        """Return whether an exact alias hides the model of this name."""
        found = principal.aliases.exact.get(name.key) or self.aliases.exact.get(name.key)
        return found is not None and found.hides is not None

    def allowed(
        self, principal: Principal, name: ModelName, alias: Alias | None
    ) -> tuple[ModelName, ...]:
        """Return those models of a name that the key may use: at most one if it is no alias."""
        may_use_alias = alias is not None and principal.may_use_alias(name)
        return tuple(
            model
            for model in (alias.models if alias is not None else (name,))
            if may_reach(
                principal,
                model,
                is_remote=self.backends.is_remote(model),
                may_use_alias=may_use_alias,
            )
        )

    def served(
        self, models: Sequence[ModelName], asked: str, only: Backend | None
    ) -> list[ModelName]:
        """Return the models that a backend can serve now, or that `only` one can.

        Raises Unavailable or ModelForbidden if there is none.
        """
        served, down = [], None
        for model in models:
            try:
                self.backends.check(model, clock.now(), only)
                served.append(model)
            except ModelDown as error:
                down = down or error
            except ModelUnknown:
                pass
        if served:
            return served
        if down is not None:
            raise Unavailable(reason=down.reason)
        raise ModelForbidden(asked, reason=Reason.UNKNOWN_MODEL)

    def _is_model(self, principal: Principal, name: ModelName) -> bool:
        """Return whether a backend hosts a model of this name, and the key may use it."""
        is_hosted = any(backend.hosts(name) for backend in self.backends.all)
        return is_hosted and bool(self.allowed(principal, name, None))


def may_reach(
    principal: Principal, model: ModelName, *, is_remote: bool, may_use_alias: bool
) -> bool:
    """Return whether a key may use a model, or may use it by the right to an alias of it.

    `is_remote` says whether a backend answers from Ollama's cloud, whatever the model is called.
    """
    if is_remote or model.cloud:
        name = model if model.cloud else attrs.evolve(model, tag=f"{model.tag}-cloud")
        return principal.may_use(name) and (may_use_alias or principal.may_use(model))
    return may_use_alias or principal.may_use(model)
