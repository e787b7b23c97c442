"""`gatewayctl backends`, run in this process, beside a gateway or beside something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.cli import pausing
from tests.keys.admin_listener import AdminListener, admin_listener, http
from tests.smoke.fleet import free_port

BACKENDS = [
    {"name": "a", "url": "http://10.0.0.5:11434", "priority": 2, "slots": 4},
    {"name": "b", "url": "http://10.0.0.6:11434", "priority": 1},
]
A: dict[str, Any] = {
    "name": "a",
    "priority": 2,
    "slots": 4,
    "up": True,
    "paused": True,
    "in_flight": 3,
    "models": 12,
    "loaded": 1,
    "version": "0.33.0",
}
B: dict[str, Any] = {
    **A,
    "name": "b",
    "priority": 1,
    "slots": 0,
    "up": False,
    "paused": False,
    "in_flight": 0,
    "version": None,
}
TAKES_EFFECT = "takes effect within a second in every gateway whose data_dir is {}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PauseFile:
    """The file of settings with backends `a` and `b`, and no gateway that answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("OLLAMA_BACKENDS", json.dumps(BACKENDS))
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{free_port()}")
    return PauseFile(tmp_path / "data")


@pytest.fixture
def listener(file: PauseFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Something listens where the settings have the admin listener."""
    with admin_listener() as listener:
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        yield listener


def run(*arguments: str) -> Result:
    """Run `gatewayctl backends ...`."""
    result = CliRunner().invoke(pausing.app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_without_a_gateway_the_file_is_told(file: PauseFile) -> None:
    """The order is that of preference; what only a gateway knows is a question mark."""
    file.add("a")
    listed = run("list")

    assert listed.exit_code == 0
    assert [line.split("  ")[0] for line in listed.stdout.splitlines()] == ["name", "b", "a"]
    assert "paused, ?" in listed.stdout.splitlines()[2]
    assert listed.stderr.startswith("no gateway answers on 127.0.0.1:")

    objects = json.loads(run("list", "--json").stdout)
    assert [(o["name"], o["state"], o["paused"], o["up"]) for o in objects] == [
        ("b", "?", False, None),
        ("a", "paused, ?", True, None),
    ]


def test_a_gateways_figures_are_told(file: PauseFile, listener: AdminListener) -> None:
    """What the running gateway does counts, not what the file says."""
    listener.says("/status.json", {"backends": [B, A]})
    listed = run("list")

    assert (listed.exit_code, listed.stderr) == (0, "")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["b", "http://10.0.0.6:11434", "1", "0", "down", "0", "12", "1", "-"],
        ["a", "http://10.0.0.5:11434", "2", "4", "paused,", "up", "3", "12", "1", "0.33.0"],
    ]
    assert json.loads(run("list", "--json").stdout)[1] == {
        **A,
        "url": "http://10.0.0.5:11434",
        "state": "paused, up",
    }


def test_a_backend_that_the_gateway_does_not_know(file: PauseFile, listener: AdminListener) -> None:
    """Settings that are newer than the gateway show what is known, and say so."""
    listener.says("/status.json", {"backends": [A]})
    listed = run("list", "--json")

    assert [o["state"] for o in json.loads(listed.stdout)] == ["?", "paused, up"]
    assert listed.stderr.endswith(" was started without: b\n")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"backends": None},
        {"backends": ["a"]},
        {"backends": [{**A, "paused": None}]},
        {"backends": [{**A, "in_flight": "3"}]},
        {"backends": [{**A, "version": 1}]},
        {"backends": [A, {**B, "name": ["b"]}]},
        {"backends": [{name: value for name, value in A.items() if name != "paused"}]},
    ],
)
def test_what_no_gateway_says_is_no_answer(
    file: PauseFile, listener: AdminListener, status: object
) -> None:
    """Whatever sits on the port, the file is told."""
    listener.says("/status.json", status)
    listed = run("list", "--json")

    assert listed.exit_code == 0
    assert [o["state"] for o in json.loads(listed.stdout)] == ["?", "?"]
    assert listed.stderr.startswith("no gateway answers on ")


def test_a_refused_token_is_no_answer(file: PauseFile, listener: AdminListener) -> None:
    """A gateway that does not tell us is as good as none."""
    listener.answers["/status.json"] = http(json.dumps({"backends": [A, B]}).encode(), 401)

    assert run("list").stderr.startswith("no gateway answers on ")


def test_what_a_backend_says_of_itself_is_no_command_to_a_terminal(
    file: PauseFile, listener: AdminListener
) -> None:
    """A version with control characters is escaped."""
    listener.says("/status.json", {"backends": [{**A, "version": "\x1b[2J\n1"}, B]})

    assert r'"\u001b[2J\n1"' in run("list").stdout


def test_pausing_without_a_gateway(file: PauseFile) -> None:
    """It is kept for whichever gateway comes; again is no error."""
    for _ in range(2):
        done = run("pause", "a")
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "a is paused: no new requests go to it",
            TAKES_EFFECT.format(file.directory),
        ]
        assert file.read() == {"a"}
    for _ in range(2):
        done = run("resume", "a")
        assert done.exit_code == 0
        assert done.stdout.splitlines()[0] == "a is resumed: new requests go to it"
        assert file.read() == frozenset()


@pytest.mark.parametrize(
    ("in_flight", "text"),
    [(0, "none is still running"), (1, "1 is still running"), (2, "2 are still running")],
)
def test_pausing_says_what_still_runs(
    file: PauseFile, listener: AdminListener, in_flight: int, text: str
) -> None:
    """The gateway is asked what is left to finish."""
    listener.says("/status.json", {"backends": [{**A, "in_flight": in_flight}, B]})

    first = run("pause", "a").stdout.splitlines()[0]
    assert first == f"a is paused: no new requests go to it, {text}"
    assert json.loads(run("pause", "a", "--json").stdout) == {
        "name": "a",
        "paused": True,
        "in_flight": in_flight,
        "in_force": True,
    }


def test_a_gateway_that_does_not_do_so(
    file: PauseFile, listener: AdminListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that watches another directory is noticed: exit 1, and nothing is claimed."""
    monkeypatch.setattr(pausing, "IN_FORCE_SECONDS", 0.0)
    listener.says("/status.json", {"backends": [A, B]})
    done = run("pause", "b")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "does not follow; does it have another storage.data_dir?" in done.stderr
    assert file.read() == {"b"}


def test_the_last_one_is_paused_with_a_warning(file: PauseFile) -> None:
    """It is done all the same."""
    assert "warning" not in run("pause", "a").stderr
    last = run("pause", "b")

    assert last.exit_code == 0
    assert "warning: all backends are paused now" in last.stderr
    assert file.read() == {"a", "b"}


def test_names_that_nobody_knows(file: PauseFile) -> None:
    """Exit 2 with those that are known; one that is only in the file can be resumed."""
    file.add("gone")
    for command, name in (("pause", "c"), ("pause", "gone"), ("resume", "c"), ("pause", "\x1b")):
        refused = run(command, name)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr == (
            f"gatewayctl backends: no backend is named {json.dumps(name)}; there are: a, b\n"
        )
    run("pause", "a")
    assert file.read() == {"a", "gone"}

    assert "gone" not in run("list").stdout
    assert run("resume", "gone").exit_code == 0
    assert file.read() == {"a"}


def test_a_broken_file_is_one_line_and_exit_1(file: PauseFile, listener: AdminListener) -> None:
    """It is never written over; what a gateway says is listed all the same."""
    listener.says("/status.json", {"backends": [A, B]})
    file.directory.mkdir()
    (file.directory / "paused.json").write_text("{}")
    line = f"gatewayctl backends: paused.json: not a list of names (in {file.directory})\n"

    for command in ("pause", "resume"):
        failed = run(command, "a")
        assert (failed.exit_code, failed.stdout, failed.stderr) == (1, "", line)
    listed = run("list", "--json")
    assert (listed.exit_code, listed.stderr) == (1, line)
    assert [o["state"] for o in json.loads(listed.stdout)] == ["down", "paused, up"]
    assert (file.directory / "paused.json").read_text() == "{}"


def test_settings_that_cannot_be_used(file: PauseFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, as everywhere."""
    monkeypatch.setenv("GATEWAY_RACE_IDLE_TIMEOUT", "soon")

    for arguments in (("list",), ("pause", "a"), ("resume", "a")):
        assert run(*arguments).exit_code == 2
