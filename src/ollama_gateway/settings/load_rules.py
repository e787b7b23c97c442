"""The rules for the loads of models: `[[models]]` and `[models_defaults]`.

A rule for `num_ctx` or `keep_alive` is a word, a value of its own, or a value with a bound before
it: `"max 32768"`, `"min 5m"`.
"""

from __future__ import annotations

from typing import Annotated, Final

import attrs

from ollama_gateway.models.rules import (
    CLIENT_CONTEXT,
    CLIENT_STAY,
    HOUR,
    LOADED,
    ContextRule,
    StayRule,
)
from ollama_gateway.settings import units
from ollama_gateway.settings.units import Codec

MAX_CONTEXT: Final = 2**31 - 1
"""Tokens; more does not fit where Ollama keeps them."""


def model_pattern(value: object) -> str:
    """Read a model's name, or a pattern with wildcards as keys have them."""
    from ollama_gateway.errors import BadRequest  # noqa: PLC0415 - only where there are rules
    from ollama_gateway.wire.names import MAX_PATTERN, ModelName  # noqa: PLC0415

    if isinstance(value, str) and 0 < len(value) <= MAX_PATTERN and value.isascii():
        if any(wildcard in value for wildcard in "*?[") and value.isprintable():
            return value
        try:
            ModelName.parse(value)
        except BadRequest:
            pass
        else:
            return value
    raise ValueError(f"{units.shown(value)} is neither a model name nor a pattern")


def context_rule(value: object) -> ContextRule:
    """Read a rule for `num_ctx`: `client`, `loaded`, tokens, or `max` and tokens."""
    if value == "client":
        return CLIENT_CONTEXT
    if value == "loaded":
        return LOADED
    word, _, bound = value.partition(" ") if isinstance(value, str) else ("", "", "")
    tokens = units.number_from_text(bound) if word == "max" else value
    if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 < tokens <= MAX_CONTEXT:
        return ContextRule("max" if word == "max" else "exactly", tokens)
    raise ValueError(f'{units.shown(value)} is not "client", "loaded", 8192 or "max 32768"')


def show_context_rule(rule: ContextRule | None) -> object:
    """Show a rule as `context_rule` reads it, and no rule as an empty text."""
    if rule is None:
        return ""
    shown = {"exactly": rule.tokens, "max": f"max {rule.tokens}"}
    return shown.get(rule.kind, rule.kind)


def stay_rule(value: object) -> StayRule:
    """Read a rule for `keep_alive`: `client`, a duration, or `min` or `max` and a duration."""
    if value == "client":
        return CLIENT_STAY
    word, _, bound = value.partition(" ") if isinstance(value, str) else ("", "", "")
    kind: Final = {"min": "min", "max": "max"}.get(word)
    try:
        seconds = units.some_seconds(bound if kind else value)
    except ValueError:
        expected = '"client", "30m", "min 5m" or "max 1h"'
        raise ValueError(f"{units.shown(value)} is not {expected}") from None
    if kind is None:
        return StayRule("exactly", seconds)
    return StayRule("min" if kind == "min" else "max", seconds)


def show_stay_rule(rule: StayRule | None) -> object:
    """Show a rule as `stay_rule` reads it, and no rule as an empty text."""
    if rule is None or rule.kind == "client":
        return "" if rule is None else "client"
    duration = units.show_seconds(rule.seconds)
    return duration if rule.kind == "exactly" else f"{rule.kind} {duration}"


def strips(value: object) -> bool:
    """Read a rule for the other load options: whether they are taken out."""
    return bool(units.one_of("client", "strip")(value) == "strip")


def show_strips(rule: bool | None) -> str:  # noqa: FBT001 - a value, not a flag
    """Show it as `strips` reads it, and no rule as an empty text."""
    return "" if rule is None else "strip" if rule else "client"


ModelPattern = Annotated[str, Codec(model_pattern)]
_CONTEXT: Final = Codec(context_rule, units.number_from_text, show_context_rule)
_OPTIONS: Final = Codec(strips, show=show_strips)
_STAY: Final = Codec(stay_rule, show=show_stay_rule)


@attrs.frozen
class ModelSettings:
    """What requests may ask of the load of some models; None leaves it to the defaults."""

    match: ModelPattern
    """A model's name, or a pattern of names."""
    num_ctx: Annotated[ContextRule | None, _CONTEXT] = None
    """The context with which it is loaded."""
    load_options: Annotated[bool | None, _OPTIONS] = None
    """Whether the other load options of requests are taken out."""
    keep_alive: Annotated[StayRule | None, _STAY] = None
    """How long it stays loaded after a request."""


@attrs.frozen
class ModelDefaultSettings:
    """What keys without `manage` may ask of the load of models where `[[models]]` is silent."""

    num_ctx: Annotated[ContextRule, _CONTEXT] = LOADED
    """The context with which a model is loaded."""
    load_options: Annotated[bool, _OPTIONS] = True
    """Whether the other load options of requests are taken out."""
    keep_alive: Annotated[StayRule, _STAY] = HOUR
    """How long a model stays loaded after a request."""
