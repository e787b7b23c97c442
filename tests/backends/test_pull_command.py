"""`gatewayctl pull`: each backend pulls independently."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
import trio.testing
from typer.testing import CliRunner

from ollama_gateway.cli.main import app
from ollama_gateway.control.pulling import Pull, pull_all
from ollama_gateway.simulator import Script
from tests.server.managing import managed
from tests.smoke.fleet import free_port

Clock = trio.testing.MockClock
RAW = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: "


def saying(body: bytes) -> Script:
    """Return an answer with exactly this body."""
    return Script(raw=RAW + b"%d\r\n\r\n%b" % (len(body), body))


async def unheard(_pull: Pull) -> None:
    """Take a report."""


async def test_all_pull_at_once(autojump_clock: Clock) -> None:
    """A slow backend does not delay another, and the progress of each is reported."""
    ends: dict[str, float] = {}
    seen: list[tuple[str, int, int]] = []

    async def report(pull: Pull) -> None:
        seen.append((pull.backend, pull.completed, pull.total))
        if pull.is_over:
            ends[pull.backend] = trio.current_time()

    async with managed() as client:
        for name, pace in (("a", 1.0), ("b", 3.0)):
            client.scenario.simulators[name].script(Script(pace=pace), path="/api/pull")
        pulls = await pull_all(client.scenario.gateway.backends.all, "new:1", 5, report)

    assert [(pull.backend, pull.ok, pull.error) for pull in pulls] == [
        ("a", True, None),
        ("b", True, None),
    ]
    assert ends["b"] == pytest.approx(3 * ends["a"])
    of_a = [(completed, total) for name, completed, total in seen if name == "a"]
    assert of_a == sorted(of_a)
    assert of_a[-1][1] > of_a[-1][0] > 1_000_000, "Ollama leaves the last bytes of a layer untold"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(error_after=1, error="disk\x1b[2J full"), "disk"),
        (Script(status=500, error="oops"), "oops"),
        (Script(cut_after=0), "the answer broke off"),
        (Script(cut_after=2), "the answer broke off"),
        (Script(hang_after=0), "no progress in time"),
        (Script(hang_after=2), "no progress in time"),
        (saying(b'{"status":"x"}\n'), "the answer ended early"),
        (saying(b"<html>"), "the answer ended early"),
        (saying(b"<html>\n"), "does not answer as an Ollama does"),
        (saying(b'{"status":7,"digest":[],"total":"x"}\n{"error":{"x":1}}\n'), "backend error"),
    ],
)
async def test_one_that_fails(autojump_clock: Clock, script: Script, error: str) -> None:
    """A failed pull has one printable line as its reason, and the other continues."""
    async with managed() as client:
        client.scenario.simulators["a"].script(script, path="/api/pull")
        pulls = await pull_all(client.scenario.gateway.backends.all, "new:1", 5, unheard)

    assert pulls[0].error is not None
    assert error in pulls[0].error
    assert pulls[0].error.isprintable()
    assert [pull.ok for pull in pulls] == [False, True]


def run(*arguments: str) -> tuple[int, str, str]:
    """Run `gatewayctl pull` with two servers that are down; return exit code, stdout and stderr."""
    backends = ",".join(f"{name}=http://127.0.0.1:{free_port()}" for name in "ab")
    with TemporaryDirectory() as directory:
        file = Path(directory, "gateway.toml")
        file.touch()
        settings = {"OLLAMA_BACKENDS": backends, "GATEWAY_CONFIG": str(file)}
        ended = CliRunner().invoke(app, ["pull", *arguments], env=settings)
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["m:1"], 2, "name the backends: --on A,B or --all"),
        (["m:1", "--on", "a", "--all"], 2, "name the backends: --on A,B or --all"),
        (["no name", "--all"], 2, "invalid model name"),
        (["m:1", "--on", "a,aa"], 1, 'no backend is named "aa" (did you mean a?); there are: a, b'),
        (["m:1", "--on", ""], 1, 'no backend is named ""; there are: a, b'),
    ],
)
def test_wrong_usage(arguments: list[str], exit_code: int, message: str) -> None:
    """Wrong usage is one line and exit code 2, an unknown name 1, and nothing is pulled."""
    code, stdout, stderr = run(*arguments)

    assert (code, stdout, stderr) == (exit_code, "", f"gatewayctl pull: {message}\n")


def test_json() -> None:
    """`--json` prints one list only; a name given twice is pulled once."""
    code, stdout, _ = run("m:1", "--on", "b,b", "--json")

    assert code == 1
    assert json.loads(stdout) == [
        {"backend": "b", "ok": False, "bytes": 0, "error": "cannot connect"}
    ]
