"""Aliases in the settings: three forms, one source, and every mistake in one line."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.control.config import shown_settings
from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.settings.alias_table import MAX_ALIASES
from tests.settings.conftest import Load, Problems

TOML = """
[aliases]
"gpt-4o" = "llama3.3:70b"
"claude-*" = ["qwen3-coder:30b", "llama3.3:70b"]
"gpt-4.1-mini" = { models = ["qwen3:8b"], on_full = true }
"""
READ = Aliases(
    (
        alias_of("gpt-4o", ["llama3.3:70b"]),
        alias_of("claude-*", ["qwen3-coder:30b", "llama3.3:70b"]),
        alias_of("gpt-4.1-mini", ["qwen3:8b"], on_full=True),
    )
)


def test_an_alias_is_written_in_three_forms(loaded: Load) -> None:
    """A model, a list, or a table; they keep the order of the file, and are shown as they count."""
    found = loaded(TOML)
    shown = {one.path: (one.value, one.origin) for one in shown_settings(found)}

    assert found.settings.aliases == READ
    assert shown['aliases."gpt-4o"'] == (["llama3.3:70b"], "file")
    assert shown['aliases."gpt-4.1-mini"'][0] == {"models": ["qwen3:8b"], "on_full": True}


def test_the_environment_replaces_the_file(loaded: Load) -> None:
    """`GATEWAY_ALIASES` has all aliases, as JSON."""
    found = loaded(TOML, {"GATEWAY_ALIASES": '{"gpt-4o": "m1"}'})

    assert found.settings.aliases == Aliases((alias_of("gpt-4o", ["m1"]),))
    assert found.origins["aliases"] == "environment"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('aliases = "x"', "aliases: must be a table: [aliases]"),
        ("[aliases]\na = 5", 'aliases."a": 5 is not a model, a list of models, or'),
        ("[aliases]\na = []", 'aliases."a": needs 1 to 16 models'),
        ("[aliases]\na = [5]", "aliases.\"a\": '5' is no model name"),
        ('[aliases]\na = "m*"', "aliases.\"a\": 'm*' is no model name"),
        ('[aliases]\na = ["m", "M:latest"]', 'aliases."a": names the same model twice'),
        ('[aliases]\n"a b" = "m"', 'aliases."a b": is neither a model name nor a pattern'),
        ('[aliases]\na = { models = "m", onfull = true }', "did you mean on_full?"),
        ('[aliases]\na = { models = "m", on_full = 1 }', "on_full: 1 is not true or false"),
        ('[aliases]\ngpt-4.1 = "m"', 'aliases."gpt-4": must be a model, a list of models, or'),
        ('[aliases]\ngpt-4.1 = "m"', "a name with a dot needs quotes"),
        ('[aliases]\na = "m"\n"A:latest" = "m"', 'aliases."A:latest": is the same name as a'),
        ('[aliases]\na = "b"\nb = "m"', 'aliases."a": b is an alias itself: name a model'),
        ('[alias]\na = "b"', "alias: unknown setting (did you mean aliases?)"),
    ],
)
def test_a_mistake_is_one_line(problems: Problems, toml: str, problem: str) -> None:
    """It names the alias and says its mistake."""
    (found,) = problems(toml)

    assert problem in found


def test_all_mistakes_are_told_at_once(problems: Problems) -> None:
    """One run finds those of every alias."""
    found = problems('[aliases]\na = 5\nb = []\n[server]\nbind = "x"')

    assert {line.split(":")[0] for line in found} == {'aliases."a"', 'aliases."b"', "server.bind"}


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"a": ', '"' + "x" * 9, "5", "[" * 100_000, '{"a": 5}', '{"\\ud800": "m"}']
)
def test_a_hostile_variable_is_one_line(problems: Problems, text: str) -> None:
    """Whatever it holds, the variable is named."""
    (found,) = problems("", {"GATEWAY_ALIASES": text})

    assert found.startswith("GATEWAY_ALIASES")
    assert len(found) < 600


def test_what_looks_like_a_secret_is_not_repeated(problems: Problems) -> None:
    """A key in the wrong place is not shown."""
    found = problems("[aliases]\na = 'ogw_secret secret'\n'ogw_x y' = 'm'")

    assert not [line for line in found if "ogw_" in line]


def test_there_are_not_too_many(problems: Problems) -> None:
    """Each pattern is compared with each unknown name, so their number is limited."""
    many = {f"a{n}": "m" for n in range(MAX_ALIASES + 1)}

    assert problems("", {"GATEWAY_ALIASES": json.dumps(many)}) == (
        "GATEWAY_ALIASES: more than 1000 aliases",
    )
