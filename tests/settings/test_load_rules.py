"""The settings for the loads of models."""

from __future__ import annotations

import pytest

from ollama_gateway.models.rules import ContextRule, StayRule
from ollama_gateway.settings import SettingsError
from ollama_gateway.settings.load_rules import (
    ModelSettings,
    context_rule,
    show_context_rule,
    show_stay_rule,
    show_strips,
    stay_rule,
)
from tests.settings.conftest import Load


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("client", ContextRule("client")),
        ("loaded", ContextRule("loaded")),
        (8192, ContextRule("exactly", 8192)),
        ("max 32768", ContextRule("max", 32_768)),
    ],
)
def test_a_rule_for_the_context(value: object, rule: ContextRule) -> None:
    """It is read, and shown as it was written."""
    assert context_rule(value) == rule
    assert show_context_rule(rule) == value


@pytest.mark.parametrize(
    "value", ["", "8192", "max", "max 0", "max -1", "max 1.5", "min 5", "max  5", 0, -1, True, 1.5]
)
def test_no_rule_for_the_context(value: object) -> None:
    """Anything else is refused, with the values that there are."""
    with pytest.raises(ValueError, match='is not "client", "loaded", 8192 or "max 32768"'):
        context_rule(value)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("client", StayRule("client")),
        ("30m", StayRule("exactly", 1800)),
        ("min 5m", StayRule("min", 300)),
        ("max 1h", StayRule("max", 3600)),
    ],
)
def test_a_rule_for_the_stay(value: str, rule: StayRule) -> None:
    """It is read, and shown as it was written."""
    assert stay_rule(value) == rule
    assert show_stay_rule(rule) == value


@pytest.mark.parametrize("value", ["", "30", "0s", "max 0s", "max", "-1", "least 5m", 1800, None])
def test_no_rule_for_the_stay(value: object) -> None:
    """Anything else is refused, with the values that there are."""
    with pytest.raises(ValueError, match='is not "client", "30m", "min 5m" or "max 1h"'):
        stay_rule(value)


def test_no_rule_is_shown_as_nothing() -> None:
    """A matter that a rule leaves open is empty."""
    assert (show_context_rule(None), show_stay_rule(None), show_strips(None)) == ("", "", "")


def test_the_rules_keep_their_order(loaded: Load) -> None:
    """Each table is one rule, and the defaults are a section of their own."""
    toml = """
    [[models]]
    match = "llama3*"
    num_ctx = "max 32768"
    [[models]]
    match = "*"
    load_options = "strip"
    keep_alive = "30m"
    [models_defaults]
    num_ctx = "client"
    """
    found = loaded(toml, {"GATEWAY_MODELS_DEFAULTS_KEEP_ALIVE": "min 5m"}).settings

    assert found.models == (
        ModelSettings("llama3*", ContextRule("max", 32_768)),
        ModelSettings("*", load_options=True, keep_alive=StayRule("exactly", 1800)),
    )
    assert found.models_defaults.num_ctx == ContextRule("client")
    assert found.models_defaults.load_options is True
    assert found.models_defaults.keep_alive == StayRule("min", 300)


def test_the_environment_has_numbers_too(loaded: Load) -> None:
    """A context in tokens is a number in a variable as well."""
    found = loaded("", {"GATEWAY_MODELS_DEFAULTS_NUM_CTX": "8192"}).settings

    assert found.models_defaults.num_ctx == ContextRule("exactly", 8192)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[[models]]", "models[0].match: is missing"),
        ("[[models]]\nmatch = 'a b'", 'models[0].match: "a b" is neither a model name nor'),
        ("[[models]]\nmatch = '\u00e9*'", "is neither a model name nor a pattern"),
        ("[[models]]\nmatch = 'm'\nnum_ctx = 'all'", 'models[0].num_ctx: "all" is not'),
        ("[[models]]\nmatch = 'm'\nmax = 1", "models[0].max: unknown setting"),
        ("[models]\nmatch = 'm'", "models: must be a list of tables"),
        ("models = [1]", "models[0]: must be a table"),
        ("[models_defaults]\nload_options = 'drop'", 'models_defaults.load_options: "drop" is'),
        ("[models_default]", "models_default: unknown setting (did you mean models_defaults?)"),
    ],
)
def test_a_wrong_rule_is_named(loaded: Load, toml: str, problem: str) -> None:
    """A line says which value of which rule is wrong."""
    with pytest.raises(SettingsError) as caught:
        loaded(toml)
    assert problem in str(caught.value)


def test_no_rules_are_no_problem(loaded: Load) -> None:
    """An empty list is as good as none."""
    assert loaded("models = []").settings.models == ()
