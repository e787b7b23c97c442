"""Load policies: what clients may ask of the load of a model, and what they get instead.

Whatever a request says of its model's load holds for everyone who uses the model there: another
`num_ctx` has it loaded anew, `keep_alive` ends or prolongs its stay. So the operator's rules for
models decide (`[[models]]`, the first match wins), and where they are silent, a key without the
right `manage` may change nothing for others (`[models_defaults]`).

A policy says what to change in one request for one machine; `wire/load_options.py` does it.
"""

from __future__ import annotations

from typing import Final

import attrs

from ollama_gateway.models.rules import (
    CLIENT_CONTEXT,
    CLIENT_STAY,
    HOUR,
    LOADED,
    ContextRule,
    StayRule,
)
from ollama_gateway.wire.load_options import AskedLoad, LoadChange, LoadOptions
from ollama_gateway.wire.names import ModelName, matches

LEAST_STAY: Final = 60.0
"""Seconds; a shorter stay would unload the model under others."""


@attrs.frozen
class LoadPolicy:
    """The rules for one request. By default nothing is changed."""

    num_ctx: ContextRule = CLIENT_CONTEXT
    strips_options: bool = False
    """Whether the load options other than `num_ctx` are taken out."""
    keep_alive: StayRule = CLIENT_STAY
    may_unload: bool = True
    """Whether a request may shorten the model's stay to less than `LEAST_STAY`."""

    def change(
        self, asked: AskedLoad, estimate: int, loaded: int | None, longest: int | None
    ) -> LoadChange:
        """Return what to change in a request; see `ContextRule.choose` for the arguments."""
        if not asked.is_readable:
            return LoadChange(keep_alive=self.stay(asked.keep_alive))
        context = self.num_ctx.choose(asked.num_ctx, estimate, loaded, longest)
        return LoadChange(
            dropped=asked.present if self.strips_options else (),
            num_ctx=None if context == asked.num_ctx else context,
            keep_alive=self.stay(asked.keep_alive),
            has_options=asked.has_options,
        )

    def stay(self, asked: float | None) -> float | None:
        """Return the stay to ask for, 0 to leave it as it is now, None for the client's."""
        stay = self.keep_alive.choose(asked)
        is_short = asked is not None and asked < min(LEAST_STAY, self.keep_alive.seconds)
        return 0.0 if stay is None and is_short and not self.may_unload else stay

    def options(self, asked: AskedLoad) -> LoadOptions:
        """Return the load options that reach Ollama, as far as no machine decides them."""
        kept = {
            name: value
            for name, value in asked.options
            if (name == "num_ctx") or not self.strips_options
        }
        if self.num_ctx.kind == "loaded":
            kept.pop("num_ctx", None)
        elif context := self.num_ctx.choose(asked.num_ctx, 0, None, None):
            kept["num_ctx"] = context
        return tuple(kept.items())

    @property
    def touch(self) -> float | None:
        """The stay that a model gets after an answer whose request cannot name one, in seconds."""
        return self.keep_alive.seconds if self.keep_alive.kind in {"exactly", "min"} else None


UNCHANGED: Final = LoadPolicy()


@attrs.frozen
class ModelRules:
    """The rules of one `[[models]]` table, or the defaults; None leaves a matter open."""

    num_ctx: ContextRule | None = None
    strips_options: bool | None = None
    keep_alive: StayRule | None = None


PROTECTING: Final = ModelRules(LOADED, strips_options=True, keep_alive=HOUR)
"""The defaults for keys without the right `manage`."""


@attrs.frozen
class LoadPolicies:
    """All policies.

    Args:
        rules: patterns of model names, as keys have them, and their rules; the first match wins.
        defaults: what holds for keys without the right `manage` where the rules leave it open.

    """

    rules: tuple[tuple[str, ModelRules], ...] = ()
    defaults: ModelRules = PROTECTING

    def policy(self, model: ModelName, *, may_manage: bool) -> LoadPolicy:
        """Return the policy of a request; a model of Ollama's cloud is loaded by no machine."""
        if model.cloud:
            return UNCHANGED
        found = next((rules for pattern, rules in self.rules if matches(pattern, model)), None)
        own, other = found or ModelRules(), ModelRules() if may_manage else self.defaults
        stay = own.keep_alive or other.keep_alive or CLIENT_STAY
        strips = own.strips_options if own.strips_options is not None else other.strips_options
        return LoadPolicy(
            num_ctx=own.num_ctx or other.num_ctx or CLIENT_CONTEXT,
            strips_options=bool(strips),
            keep_alive=stay,
            may_unload=may_manage or stay.kind == "client",
        )
