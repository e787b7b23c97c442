"""Load policies: which rule holds for a request, and what it gets."""

from __future__ import annotations

import math
from typing import Final

import pytest

from ollama_gateway.models.policies import UNCHANGED, LoadPolicies, LoadPolicy, ModelRules
from ollama_gateway.models.rules import ASSUMED_CONTEXT, ContextRule, StayRule
from ollama_gateway.wire.load_options import AskedLoad, LoadChange
from ollama_gateway.wire.names import ModelName

M: Final = ModelName.parse("llama3:8b")
LOADED: Final = ContextRule("loaded")
EIGHT: Final = 8192
MAX: Final = 32_768
KEPT: Final = LoadPolicy(
    LOADED, strips_options=True, keep_alive=StayRule("exactly", 1800), may_unload=False
)
GUARDED: Final = LoadPolicy(
    LOADED, strips_options=True, keep_alive=StayRule("max", 3600), may_unload=False
)
OPEN: Final = ModelRules(
    ContextRule("max", EIGHT), strips_options=False, keep_alive=StayRule("client")
)


@pytest.mark.parametrize(
    ("asked", "loaded", "longest", "sent"),
    [
        (None, None, MAX, None),  # the server's own default
        (None, EIGHT, MAX, EIGHT),
        (EIGHT, None, MAX, EIGHT),
        (4096, EIGHT, MAX, EIGHT),
        (1, EIGHT, MAX, EIGHT),
        (16_384, EIGHT, MAX, 16_384),
        (10**9, EIGHT, MAX, MAX),
        (10**9, MAX, MAX, MAX),
        (10**9, None, None, ASSUMED_CONTEXT),
        (10**9, EIGHT, None, ASSUMED_CONTEXT),
        (1, None, MAX, 4096),  # else the next one who names none would get a context of 1
        (-5, None, MAX, 4096),
        (1, None, 512, 512),
    ],
)
def test_a_context_that_is_loaded_serves_all_that_it_is_enough_for(
    asked: int | None, loaded: int | None, longest: int | None, sent: int | None
) -> None:
    """A request gets the loaded context if it is enough, and at most the model's own."""
    assert LOADED.choose(asked, 100, loaded, longest) == sent


def test_a_long_request_that_names_no_context_gets_the_servers_own() -> None:
    """About as many tokens as it has must fit into the loaded context."""
    assert LOADED.choose(None, EIGHT, EIGHT, MAX) == EIGHT
    assert LOADED.choose(None, EIGHT + 1, EIGHT, MAX) is None


@pytest.mark.parametrize(
    ("rule", "asked", "sent"),
    [
        (ContextRule("client"), 10**9, None),
        (ContextRule("client"), None, None),
        (ContextRule("exactly", EIGHT), None, EIGHT),
        (ContextRule("exactly", EIGHT), MAX, EIGHT),
        (ContextRule("max", EIGHT), MAX, EIGHT),
        (ContextRule("max", EIGHT), EIGHT, None),
        (ContextRule("max", EIGHT), None, None),
    ],
)
def test_other_rules_for_the_context(
    rule: ContextRule, asked: int | None, sent: int | None
) -> None:
    """The loaded context does not matter to them."""
    for loaded in (None, 4096, MAX):
        assert rule.choose(asked, 100, loaded, MAX) == sent


@pytest.mark.parametrize(
    ("rule", "asked", "sent"),
    [
        (StayRule("client"), 0, None),
        (StayRule("client"), math.inf, None),
        (StayRule("exactly", 1800), None, 1800),
        (StayRule("exactly", 1800), 0, 1800),
        (StayRule("min", 300), None, 300),
        (StayRule("min", 300), 0, 300),
        (StayRule("min", 300), math.inf, None),
        (StayRule("max", 3600), None, None),
        (StayRule("max", 3600), 0, 0),
        (StayRule("max", 3600), 1e-3, 0),
        (StayRule("max", 3600), 59.9, 0),
        (StayRule("max", 3600), 60, None),
        (StayRule("max", 3600), 7200, 3600),
        (StayRule("max", 3600), math.inf, 3600),
        (StayRule("max", 30), 40, 30),
        (StayRule("max", 30), 30, None),
    ],
)
def test_a_stay_that_others_depend_on(
    rule: StayRule, asked: float | None, sent: float | None
) -> None:
    """Where a key may not unload, 0 means that the stay is left as it is."""
    assert LoadPolicy(keep_alive=rule, may_unload=rule.kind == "client").stay(asked) == sent


@pytest.mark.parametrize("asked", [0, 1e-3, 59.9])
def test_a_key_that_may_unload_may_shorten_the_stay(asked: float) -> None:
    """A bound from above is the only bound for it."""
    assert LoadPolicy(keep_alive=StayRule("max", 3600)).stay(asked) is None


@pytest.mark.parametrize(
    ("model", "may_manage", "policy"),
    [
        ("llama3:8b", False, KEPT),
        ("llama3:8b", True, LoadPolicy(keep_alive=StayRule("exactly", 1800))),
        ("LLAMA3.1", False, KEPT),
        ("phi4", False, LoadPolicy(ContextRule("max", EIGHT))),
        ("phi4", True, LoadPolicy(ContextRule("max", EIGHT))),
        ("other", False, GUARDED),
        ("other", True, UNCHANGED),
        ("llama3:cloud", False, UNCHANGED),
    ],
)
def test_the_first_match_wins(model: str, may_manage: bool, policy: LoadPolicy) -> None:  # noqa: FBT001
    """What a rule leaves open, the defaults say, and only for keys that may not manage."""
    policies = LoadPolicies(
        (
            ("llama3*", ModelRules(keep_alive=StayRule("exactly", 1800))),
            ("phi4", OPEN),
            ("*:latest", ModelRules()),
            ("other", ModelRules(ContextRule("exactly", 1))),
        )
    )
    assert policies.policy(ModelName.parse(model), may_manage=may_manage) == policy


def test_what_ollama_refuses_is_left_to_it() -> None:
    """Options of a wrong type reach Ollama, which has words for them; the stay is bounded still."""
    asked = AskedLoad(present=("num_gpu",), keep_alive=0.0, is_readable=False)
    policy = LoadPolicies().policy(M, may_manage=False)

    assert policy.change(asked, 0, EIGHT, MAX) == LoadChange(keep_alive=0.0)


def test_a_context_that_the_client_has_asked_for_is_no_change() -> None:
    """Nothing is written where the body says it already."""
    policy = LoadPolicy(LOADED)

    assert policy.change(AskedLoad(num_ctx=EIGHT), 0, EIGHT, MAX) == LoadChange()


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (UNCHANGED, (("num_ctx", EIGHT), ("num_gpu", 0))),
        (LoadPolicy(LOADED), (("num_gpu", 0),)),
        (LoadPolicy(LOADED, strips_options=True), ()),
        (LoadPolicy(ContextRule("max", 4096), strips_options=True), (("num_ctx", 4096),)),
    ],
)
def test_the_options_by_which_a_machine_is_chosen(
    policy: LoadPolicy, options: tuple[tuple[str, float], ...]
) -> None:
    """A machine is chosen by the options that reach it, not by those that the client wrote."""
    asked = AskedLoad((("num_ctx", EIGHT), ("num_gpu", 0)), ("num_gpu",), EIGHT)

    assert policy.options(asked) == options


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [
        (StayRule("client"), None),
        (StayRule("max", 60), None),
        (StayRule("min", 60), 60),
        (StayRule("exactly", 60), 60),
    ],
)
def test_the_stay_after_an_answer_on_v1(rule: StayRule, seconds: float | None) -> None:
    """A request that cannot name a stay is given one only where the operator wants at least so."""
    assert LoadPolicy(keep_alive=rule).touch == seconds
