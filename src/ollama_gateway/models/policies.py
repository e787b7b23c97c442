"""Load policies: what clients may ask of the load of a model, and what they get instead.

Whatever a request says of its model's load holds for everyone who uses the model there: another
`num_ctx` has it loaded anew, `keep_alive` ends or prolongs its stay. So the operator's rules for
models decide (`[[models]]`, the first match wins), and where they are silent, a key without the
right `manage` may change nothing for others (`[models_defaults]`).

A policy says what to change in one request for one machine; `wire/load_options.py` does it.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from ollama_gateway.wire.load_options import AskedLoad, LoadChange, LoadOptions
from ollama_gateway.wire.names import ModelName, matches

LEAST_CONTEXT: Final = 4096
"""Tokens of the smallest context with which a request may have a model loaded where the context
that is loaded decides: others who name none would get it too."""
ASSUMED_CONTEXT: Final = 128 * 1024
"""Tokens of the largest context of a model whose own is not known (Ollama before 0.30)."""
LEAST_STAY: Final = 60.0
"""Seconds; a shorter stay would unload the model under others."""


@attrs.frozen
class ContextRule:
    """A rule for `num_ctx`."""

    kind: Literal["client", "loaded", "exactly", "max"] = "client"
    tokens: int = 0
    """The tokens of `exactly` and `max`."""

    def choose(
        self, asked: int | None, estimate: int, loaded: int | None, longest: int | None
    ) -> int | None:
        """Return the context to ask for; None leaves the request as it is.

        Args:
            asked: the client's `num_ctx`.
            estimate: about as many tokens does it need that names none.
            loaded: the context with which the machine has the model loaded; None if not known.
            longest: the model's own context; None if not known.

        """
        if self.kind == "exactly":
            return self.tokens
        if self.kind == "max":
            return self.tokens if asked is not None and asked > self.tokens else None
        if self.kind == "client":
            return None
        if asked is None:
            return loaded if loaded is not None and estimate <= loaded else None
        longest = longest or ASSUMED_CONTEXT
        if loaded is not None and min(asked, longest) <= loaded:
            return loaded
        return min(max(asked, LEAST_CONTEXT), longest)


@attrs.frozen
class StayRule:
    """A rule for `keep_alive`."""

    kind: Literal["client", "exactly", "min", "max"] = "client"
    seconds: float = 0.0
    """The seconds of all kinds but `client`."""

    def choose(self, asked: float | None) -> float | None:
        """Return the stay to ask for, in seconds; None leaves the request as it is.

        Args:
            asked: the client's `keep_alive`, infinite for ever; None without one.

        """
        if self.kind == "exactly":
            return self.seconds
        if self.kind == "min":
            return self.seconds if asked is None or asked < self.seconds else None
        if self.kind == "max":
            return self.seconds if asked is not None and asked > self.seconds else None
        return None


@attrs.frozen
class LoadPolicy:
    """The rules for one request. By default nothing is changed."""

    num_ctx: ContextRule = ContextRule()
    strips_options: bool = False
    """Whether the load options other than `num_ctx` are taken out."""
    keep_alive: StayRule = StayRule()
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


LOADED: Final = ContextRule("loaded")
HOUR: Final = StayRule("max", 3600.0)
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
        stay = own.keep_alive or other.keep_alive or StayRule()
        strips = own.strips_options if own.strips_options is not None else other.strips_options
        return LoadPolicy(
            num_ctx=own.num_ctx or other.num_ctx or ContextRule(),
            strips_options=bool(strips),
            keep_alive=stay,
            may_unload=may_manage or stay.kind == "client",
        )
