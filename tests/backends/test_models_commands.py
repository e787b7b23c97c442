"""`gatewayctl models load` and `unload`, at a simulator in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.smoke.fleet import free_port, port_of, start_simulator
from tests.support.commands import alone, as_json, failed, ran, run

LOAD = ("models", "load", "m1", "--backend")


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run a simulator as backend `a`, beside `b`, which is down; return its port."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    with start_simulator(["--model", "m1"]) as simulator:
        port = port_of(simulator)
        backends = f"a=http://127.0.0.1:{port},b=http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("OLLAMA_BACKENDS", backends)
        yield port


def loaded(port: int) -> list[str]:
    """Return what the simulator has in memory."""
    with urlopen(f"http://127.0.0.1:{port}/api/ps") as answer:
        return [model["name"] for model in json.load(answer)["models"]]


def test_a_model_is_loaded_and_unloaded(port: int) -> None:
    """It is in memory when the command ends, and the changes are in the audit log."""
    assert as_json(*LOAD, "a") == {"model": "m1:latest", "backend": "a", "loaded": True}
    assert loaded(port) == ["m1:latest"]

    said = ran("models", "unload", "M1:latest", "--backend", "a")
    assert said == "m1:latest is unloaded once its requests have ended at a\n"
    assert loaded(port) == []

    changes = [json.loads(line) for line in ran("audit", "changes", "--json").splitlines()]
    assert [(one["by"], one["action"], one["target"], one["outcome"]) for one in changes] == [
        ("local", "models.load", "m1:latest", "made"),
        ("local", "models.unload", "m1:latest", "made"),
    ]


def test_what_cannot_be_is_one_line(port: int) -> None:
    """An unknown backend or model and a backend that is down are exit code 1, and not recorded."""
    assert failed(*LOAD, "c") == (
        'gatewayctl models load: no backend is named "c"; there are: a, b'
    )
    assert failed("models", "unload", "m:latest", "--backend", "a") == (
        'gatewayctl models unload: backend a has no model "m:latest" (did you mean m1:latest?)'
    )
    assert failed(*LOAD, "b").startswith("gatewayctl models load: backend b: cannot connect")
    assert list(Path("data").glob("*.db")) == []


def test_without_a_command_models_are_listed(port: int) -> None:
    """`gatewayctl models` goes on listing them; `b` does not answer, so it exits with 1."""
    result = run("models", "--json")
    found = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (found["union"], found["backends"]) == (["m1:latest"], {"a": ["m1:latest"], "b": []})
