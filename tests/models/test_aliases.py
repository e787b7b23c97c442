"""Which alias a name is, and which aliases there cannot be."""

from __future__ import annotations

import pytest

from ollama_gateway.models.aliases import (
    MAX_MODELS,
    Alias,
    Aliases,
    WrongAlias,
    alias_of,
    aliases_from,
    covers,
    faults_of,
    text_of,
)
from ollama_gateway.wire.names import ModelName

TABLE = Aliases(
    tuple(
        alias_of(name, ["m1"])
        for name in (
            "gpt-4o",
            "claude-*",
            "claude-haiku-*",
            "*-mini",
            "?pt-4*",
            "x*y",
            "*xy",
            "a/b:c",
        )
    )
)


def found(text: str) -> str | None:
    """Return the name of the alias that a name is in the table."""
    name = ModelName.parse(text)
    alias = TABLE.exact.get(name.key) or TABLE.matching(name)
    return alias.name if alias else None


@pytest.mark.parametrize(
    ("asked", "alias"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o:latest", "gpt-4o"),
        ("https://registry.ollama.ai/library/gpt-4o", "gpt-4o"),
        ("gpt-4o:v2", "?pt-4*"),
        ("claude-sonnet-4-5", "claude-*"),
        ("claude-haiku-4-5-20251001", "claude-haiku-*"),
        ("Claude-Haiku-x:tagged", "claude-haiku-*"),
        ("o4-mini", "*-mini"),
        ("o4-mini:8b", None),
        ("gpt-4o-mini", "*-mini"),
        ("gpt-4o-maxi", "?pt-4*"),
        ("xy", "x*y"),
        ("a/b:c", "a/b:c"),
        ("a/b", None),
        ("me/claude-x", None),
        ("claude-x:cloud", None),
        ("m1", None),
    ],
)
def test_the_most_exact_alias_counts(asked: str, alias: str | None) -> None:
    """An exact name comes first, then the longest literal part, then the order of the settings."""
    assert found(asked) == alias


NAMES = ["a", "a:latest", "a:b", "n/a", "h.x/n/a:latest", "abc", "A:cloud", "a:b-cloud", "cloud"]


@pytest.mark.parametrize(
    "pattern", ["a*", "*", "A?c", "*:latest", "a:*", "n/*", "[ab]*", "*cloud", "*a"]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_right_covers_the_names_that_a_pattern_does(pattern: str, name: str) -> None:
    """A pattern means the same as the name of an alias and as a right to aliases."""
    parsed = ModelName.parse(name)
    aliases = Aliases((alias_of(pattern, ["m1"]),))

    assert covers(pattern, parsed) is (aliases.matching(parsed) is not None)


@pytest.mark.parametrize(
    ("name", "models", "fault"),
    [
        ("", ["m1"], "neither"),
        (" a", ["m1"], "neither"),
        ("a b*", ["m1"], "neither"),
        ("a\n*", ["m1"], "neither"),
        ("sha256:" + "a" * 90, ["m1"], "neither"),
        ("a", [], "needs 1 to"),
        ("a", [f"m{n}" for n in range(MAX_MODELS + 1)], "needs 1 to"),
        ("a", ["m*"], "'m\\*' is no model name"),
        ("a", ["m1", "M1:latest"], "same model twice"),
    ],
)
def test_a_wrong_alias_is_refused(name: str, models: list[str], fault: str) -> None:
    """A name must be a model name or a pattern, and its models must be models."""
    with pytest.raises(WrongAlias, match=fault):
        alias_of(name, models)


def test_an_alias_leads_to_models_only() -> None:
    """No alias leads to another one, and no name is given twice; an alias may name itself."""
    aliases = [
        alias_of("a", ["b", "m1", "m2"]),
        alias_of("b", ["m2"]),
        alias_of("B:latest", ["m2"]),
        alias_of("m1", ["m1", "m2"]),
        alias_of("m*", ["c1"]),
    ]

    assert list(faults_of(aliases)) == [
        ("B:latest", "is the same name as b"),
        ("a", "b is an alias itself: name a model"),
    ]


@pytest.mark.parametrize(
    ("alias", "hidden"),
    [
        (alias_of("m1", ["m2"]), ModelName.parse("m1").key),
        (alias_of("m1", ["m1", "m2"]), None),
        (alias_of("m*", ["m2"]), None),
    ],
)
def test_an_exact_alias_hides_a_model(alias: Alias, hidden: str | None) -> None:
    """It hides the model of its name if that is none of its own; a pattern hides none."""
    assert alias.hides == hidden


def test_a_store_gives_back_what_it_got() -> None:
    """A key's aliases keep their order and their models' tags; none is no text at all."""
    assert aliases_from(text_of(TABLE)) == TABLE
    assert text_of(aliases_from(None)) is None


@pytest.mark.parametrize(
    "text", ["[]", "5", "{", '{"a":"m1"}', '{"a":[5]}', '{"a":[]}', '{"":["m1"]}']
)
def test_a_store_of_another_program_is_refused(text: str) -> None:
    """Text that no gateway has written is an error, not an alias."""
    with pytest.raises(ValueError):  # noqa: PT011 - of two kinds
        aliases_from(text)
