"""`gatewayctl backends`, run in this process, with and without something on the admin address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.cli import backend_port, pausing
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
    "by_model": {"m:1": {"learned_capacity": 3}, "n:1": {"learned_capacity": 1}},
}
TAKES_EFFECT = "takes effect within a second in every gateway whose data_dir is {}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PauseFile:
    """Return the pause file of settings with backends `a` and `b`; no gateway answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").touch()
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("OLLAMA_BACKENDS", json.dumps(BACKENDS))
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{free_port()}")
    return PauseFile(tmp_path / "data")


@pytest.fixture
def listener(file: PauseFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Run a listener on the admin address of the settings."""
    with admin_listener() as listener:
        monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", f"127.0.0.1:{listener.port}")
        yield listener


def run(*arguments: str) -> Result:
    """Run `gatewayctl backends ...`."""
    result = CliRunner().invoke(pausing.app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_without_a_gateway_the_file_is_listed(file: PauseFile) -> None:
    """`list` sorts by priority and shows the file's state; an unknown state is a question mark."""
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


def test_a_gateways_figures_are_listed(file: PauseFile, listener: AdminListener) -> None:
    """`list` shows the state of the running gateway, not that of the file."""
    listener.says("/status.json", {"backends": [B, A]})
    listed = run("list")

    assert (listed.exit_code, listed.stderr) == (0, "")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["b", "http://10.0.0.6:11434", "1", "3", "(learned)", "down", "0", "12", "1", "-"],
        ["a", "http://10.0.0.5:11434", "2", "4", "paused,", "up", "3", "12", "1", "0.33.0"],
    ]
    found = json.loads(run("list", "--json").stdout)
    assert found[1] == {
        **A,
        "url": "http://10.0.0.5:11434",
        "state": "paused, up",
        "learned_capacity": None,
    }
    assert (found[0]["slots"], found[0]["learned_capacity"]) == (0, 3)


def test_a_backend_that_the_gateway_does_not_know(file: PauseFile, listener: AdminListener) -> None:
    """A backend that the gateway does not know is listed with a line on stderr."""
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
    """If another program answers, `list` shows the file's state."""
    listener.says("/status.json", status)
    listed = run("list", "--json")

    assert listed.exit_code == 0
    assert [o["state"] for o in json.loads(listed.stdout)] == ["?", "?"]
    assert listed.stderr.startswith("no gateway answers on ")


def test_a_refused_token_is_no_answer(file: PauseFile, listener: AdminListener) -> None:
    """A 401 counts as no answer."""
    listener.answers["/status.json"] = http(json.dumps({"backends": [A, B]}).encode(), 401)

    assert run("list").stderr.startswith("no gateway answers on ")


def test_text_of_a_backend_does_not_control_the_terminal(
    file: PauseFile, listener: AdminListener
) -> None:
    """A version with control characters is escaped."""
    listener.says("/status.json", {"backends": [{**A, "version": "\x1b[2J\n1"}, B]})

    assert r'"\u001b[2J\n1"' in run("list").stdout


def test_pausing_without_a_gateway(file: PauseFile) -> None:
    """Without a gateway the file keeps the pause; pausing or resuming twice is no error."""
    for _ in range(2):
        done = run("pause", "a")
        assert done.exit_code == 0
        assert done.stdout == "a is paused: no new requests go to it\n"
        assert done.stderr.splitlines()[-1] == TAKES_EFFECT.format(file.directory)
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
    """`pause` prints how many requests still run."""
    listener.says("/status.json", {"backends": [{**A, "in_flight": in_flight}, B]})

    first = run("pause", "a").stdout.splitlines()[0]
    assert first == f"a is paused: no new requests go to it, {text}"
    assert json.loads(run("pause", "a", "--json").stdout) == {
        "name": "a",
        "paused": True,
        "in_flight": in_flight,
        "in_force": True,
    }


def test_a_gateway_that_does_not_follow(
    file: PauseFile, listener: AdminListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the gateway does not follow, the command prints an error only and exits with 1."""
    monkeypatch.setattr(backend_port, "IN_FORCE_SECONDS", 0.0)
    listener.says("/status.json", {"backends": [A, B]})
    done = run("pause", "b")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "does not follow; does it have another storage.data_dir?" in done.stderr
    assert file.read() == {"b"}


def test_the_last_one_is_paused_with_a_warning(file: PauseFile) -> None:
    """Pausing the last backend works, with a warning."""
    assert "warning" not in run("pause", "a").stderr
    last = run("pause", "b")

    assert last.exit_code == 0
    assert "warning: all backends are paused now" in last.stderr
    assert file.read() == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "arguments", "code", "stderr"),
    [
        ('["gone"]', ("pause", "c"), 1, 'no backend is named "c"; there are: a, b'),
        ('["gone"]', ("pause", "gone"), 1, 'no backend is named "gone"; there are: a, b'),
        ("[]", ("resume", "aa"), 1, 'no backend is named "aa" (did you mean a?); there are: a, b'),
        ('["gone"]', ("pause", "\x1b"), 1, r'no backend is named "\u001b"; there are: a, b'),
        ("{}", ("pause", "a"), 1, "paused.json: not a list of names (in DIRECTORY)"),
        ("{}", ("resume", "a"), 1, "paused.json: not a list of names (in DIRECTORY)"),
    ],
)
def test_a_refusal_is_one_line(
    file: PauseFile, content: str, arguments: tuple[str, ...], code: int, stderr: str
) -> None:
    """An unknown name and a broken file are exit code 1, and the file stays as it is."""
    file.directory.mkdir()
    (file.directory / "paused.json").write_text(content)
    refused = run(*arguments)

    line = f"gatewayctl backends: {stderr}\n".replace("DIRECTORY", str(file.directory))
    assert (refused.exit_code, refused.stdout, refused.stderr) == (code, "", line)
    assert (file.directory / "paused.json").read_text() == content


def test_a_name_that_is_only_in_the_file_can_be_resumed(file: PauseFile) -> None:
    """A name that the settings no longer have is not listed, and can be resumed."""
    file.add("gone")
    run("pause", "a")
    assert file.read() == {"a", "gone"}

    assert "gone" not in run("list").stdout
    assert run("resume", "gone").exit_code == 0
    assert file.read() == {"a"}


def test_a_broken_file_is_one_line_and_exit_1(file: PauseFile, listener: AdminListener) -> None:
    """`list` reports a broken file and still shows the gateway's state."""
    listener.says("/status.json", {"backends": [A, B]})
    file.directory.mkdir()
    (file.directory / "paused.json").write_text("{}")
    line = f"gatewayctl backends: paused.json: not a list of names (in {file.directory})\n"

    listed = run("list", "--json")
    assert (listed.exit_code, listed.stderr) == (1, line)
    assert [o["state"] for o in json.loads(listed.stdout)] == ["down", "paused, up"]
    assert (file.directory / "paused.json").read_text() == "{}"


@pytest.mark.parametrize("arguments", [("list",), ("pause", "a"), ("resume", "a")])
def test_settings_that_cannot_be_used(
    file: PauseFile, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Wrong settings are exit code 2."""
    monkeypatch.setenv("GATEWAY_RACE_IDLE_TIMEOUT", "soon")

    assert run(*arguments).exit_code == 2
