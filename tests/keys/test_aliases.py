"""Keys with aliases of their own, in every store and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.keys.key import APIKey, WrongValue
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.models.aliases import MAX_OWN_ALIASES, NO_ALIASES, Aliases, alias_of
from ollama_gateway.wire.names import ModelName
from tests.keys.commands import as_json, failed, ran, run
from tests.keys.stores import found

TWO = Aliases((alias_of("gpt-4o", ["m1", "me/m2:v1"]), alias_of("claude-*", ["m1"])))


def test_aliases_come_back_as_they_were_given(store: KeyStore) -> None:
    """In their order, and until they are changed."""
    key, text = store.create("ci", aliases=TWO)
    assert key.aliases == TWO
    assert found(store, text) == [key]
    assert store.list() == (key,)
    assert store.update("ci", models=("m1",)).aliases == TWO
    assert store.rotate("ci")[0].aliases == TWO

    assert store.update("ci", aliases=NO_ALIASES).aliases == NO_ALIASES
    assert store.get("ci").principal().aliases == NO_ALIASES


@pytest.mark.parametrize(
    ("aliases", "fault"),
    [
        (Aliases((alias_of("a", ["m1"]), alias_of("A:latest", ["m2"]))), "is the same name as a"),
        (Aliases((alias_of("a", ["b"]), alias_of("b", ["m2"]))), "b is an alias itself"),
        (Aliases(tuple(alias_of(f"a{n}", ["m"]) for n in range(MAX_OWN_ALIASES + 1))), "at most"),
    ],
)
def test_a_key_with_wrong_aliases_is_refused(aliases: Aliases, fault: str) -> None:
    """No store can hold it."""
    with pytest.raises(WrongValue, match=fault):
        APIKey("abcd2345", "ci", aliases=aliases)


@pytest.mark.parametrize(
    ("pattern", "is_right"),
    [
        ("alias:gpt-4o", True),
        ("alias:gpt-*", True),
        ("alias:*", True),
        ("alias:gpt-4o:latest", True),
        ("gpt-4o", False),
        ("alias:gpt-4", False),
        ("alias:gpt-4o:8b", False),
        ("*", False),
    ],
)
def test_the_right_to_an_alias_is_a_right_of_its_own(pattern: str, *, is_right: bool) -> None:
    """It covers the names of aliases and no model, not even one that is called so."""
    principal = APIKey("abcd2345", "ci", (pattern,)).principal()

    assert principal.may_use_alias(ModelName.parse("GPT-4o")) is is_right
    assert principal.may_use(ModelName.parse("alias:gpt-4o")) is (pattern == "*")


@pytest.mark.parametrize(
    "pattern", ["alias:", "alias:a b", "alias:a b*", "alias:sha256:" + "0" * 99]
)
def test_a_right_to_no_possible_alias_is_refused(pattern: str) -> None:
    """Behind `alias:` there is a name or a pattern, as for models."""
    with pytest.raises(WrongValue, match="neither a model name nor a pattern"):
        APIKey("abcd2345", "ci", (pattern,))


@pytest.mark.parametrize("pattern", ["alias:*cloud", "alias:gpt-oss:120b-cloud", "alias:cloud"])
def test_the_right_to_an_alias_opens_no_cloud(pattern: str) -> None:
    """Neither cloud models nor the search of the web."""
    principal = APIKey("abcd2345", "ci", (pattern,)).principal()

    assert not principal.may_search()
    assert not principal.may_use(ModelName.parse("gpt-oss:120b-cloud"))


def test_aliases_on_the_command_line(data_dir: Path) -> None:
    """They are made, shown, replaced and removed."""
    made = as_json("create", "ci", "--alias", "gpt-4o=m1, me/m2:v1", "--alias", "claude-*=m1")
    shown = ran("show", "ci")
    replaced = as_json("update", "ci", "--alias", "gpt-5=m2:8b")
    removed = as_json("update", "ci", "--alias", "none")

    assert made["aliases"] == {"gpt-4o": ["m1:latest", "me/m2:v1"], "claude-*": ["m1:latest"]}
    assert "aliases:    gpt-4o=m1:latest,me/m2:v1, claude-*=m1:latest\n" in shown
    assert replaced["aliases"] == {"gpt-5": ["m2:8b"]}
    assert removed["aliases"] == {}
    assert "aliases:    -\n" in ran("show", "ci")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("gpt-4o", "is not NAME=MODEL"),
        ("gpt-4o=", "needs 1 to"),
        ("=m1", "neither"),
        ("gpt-4o=m*", "no model name"),
        ("gpt-4o=m1,M1:latest", "twice"),
    ],
)
def test_a_wrong_alias_on_the_command_line_is_a_usage_error(
    data_dir: Path, given: str, fault: str
) -> None:
    """Nothing is stored, and the option is named."""
    result = run("create", "ci", "--alias", given)
    said = " ".join(result.stderr.replace("\u2502", " ").split())

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--alias" in said
    assert fault in said
    assert as_json("list") == []


def test_aliases_that_contradict_each_other_are_one_line(data_dir: Path) -> None:
    """The store refuses them as it refuses other values."""
    result = failed("create", "ci", "--alias", "a=b", "--alias", "b=m1", code=2)

    assert "gatewayctl keys: the alias a b is an alias itself: name a model" in result
