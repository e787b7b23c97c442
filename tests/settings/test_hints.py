"""Hints about settings that are in order, but send everything to one backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_gateway.cli.main import app
from tests.settings.conftest import Load

ALONE = (
    "backends: while a is up, it gets all requests for its models: no other has its priority (1),"
    " and it has no slots; equal priorities share the load"
)


def tables(*lines: str) -> str:
    """Return settings with a backend for each line of further settings: `a`, `b`, ..."""
    return "".join(
        f'[[backends]]\nname = "{name}"\nurl = "http://{name}:1"\n{line}\n'
        for name, line in zip("abc", lines, strict=False)
    )


@pytest.mark.parametrize(
    ("lines", "hints"),
    [
        (("", ""), (ALONE,)),
        (("", "", "priority = 2"), (ALONE,)),
        (("priority = 1", "priority = 1"), ()),
        (("priority = 1", "priority = 1", "priority = 2"), ()),
        (("slots = 2", ""), ()),
        (('models = ["llama*"]', ""), ()),
        (("",), ()),
    ],
)
def test_one_backend_gets_everything(
    loaded: Load, lines: tuple[str, ...], hints: tuple[str, ...]
) -> None:
    """A first backend without an equal and without slots is a hint, since others stand by."""
    assert loaded(tables(*lines)).hints == hints


def test_the_order_of_the_variable_stays_the_priority(loaded: Load) -> None:
    """`OLLAMA_BACKENDS` names backends in the order of priority, which is hinted at."""
    found = loaded(environ={"OLLAMA_BACKENDS": "a=http://a:1,b=http://b:1"})

    assert [backend.priority for backend in found.settings.backends] == [1, 2]
    assert found.hints == (ALONE,)


def test_a_check_prints_the_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config check` prints it on stderr, and as JSON beside the warnings; the exit code is 0."""
    monkeypatch.chdir(tmp_path)
    Path("gateway.toml").write_text(tables("", ""))
    plain = CliRunner().invoke(app, ["config", "check"])
    found = CliRunner().invoke(app, ["config", "check", "--json"])

    assert (plain.exit_code, plain.stdout, plain.stderr) == (
        0,
        "ok: gateway.toml\n",
        f"hint: {ALONE}\n",
    )
    assert json.loads(found.stdout)["hints"] == [ALONE]
