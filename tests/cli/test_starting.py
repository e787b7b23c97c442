"""What a command imports: that decides how long it takes to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_gateway.cli.health import question_of
from ollama_gateway.cli.main import COMMANDS, app, command_named
from tests.support.patience import PATIENCE

LOOK = """
import sys
from ollama_gateway.__main__ import gatewayctl
sys.argv[0] = "gatewayctl"
gatewayctl(sys.argv[1:])
print("modules:", *sys.modules)
"""
SERVER = {"hypercorn", "prometheus_client", "h11", "structlog", "asyncio"}
"""Libraries that only `serve` and `demo` need."""
CLIENTS = {"trio", "httpx", "psycopg", "redis"}
TERMINAL = {"typer", "rich"}
STORES = {"psycopg", "redis", "sqlite3"}
NEVER: dict[str, set[str]] = {
    "health": SERVER | CLIENTS | TERMINAL | {"sqlite3", "dotenv"},
    "health --ready --json": SERVER | CLIENTS | TERMINAL,
    "--version": SERVER | CLIENTS | {"rich", "sqlite3", "attrs"},
    "--help": SERVER | CLIENTS | {"sqlite3", "attrs"},
    "explain m": SERVER | CLIENTS | {"sqlite3"},
    "config check": SERVER | CLIENTS | {"sqlite3"},
    "backends list": SERVER | CLIENTS,
    "keys list": SERVER | CLIENTS | {"anyio"},
    "audit list": SERVER | CLIENTS,
    "usage": SERVER | CLIENTS,
    "backup b.tar": SERVER | CLIENTS,
    "restore b.tar": SERVER | CLIENTS,
    "db migrate": SERVER | CLIENTS,
    "probe": SERVER - {"h11"} | STORES,
    "models": SERVER - {"h11"} | STORES,
    "pull m --all": SERVER - {"h11"} | STORES,
    "init 127.0.0.1:1": SERVER - {"h11"} | STORES,
    "backup --help": SERVER | CLIENTS | STORES | {"anyio", "attrs"},
    "probe --help": SERVER | CLIENTS | STORES | {"anyio", "attrs"},
    "pull --help": SERVER | CLIENTS | STORES | {"anyio", "attrs"},
    "init --help": SERVER | CLIENTS | STORES | {"anyio", "attrs"},
    "serve --config missing.toml": SERVER | CLIENTS | {"sqlite3"},
}
MOST = {
    "health": 45,
    "health --ready --json": 45,
    "--version": 10,
    "--help": 10,
    "explain m": 55,
    "config check": 55,
    "backends list": 61,
    "keys list": 82,
    "audit list": 123,
    "usage": 117,
    "backup b.tar": 125,
    "restore b.tar": 125,
    "db migrate": 107,
    "probe": 100,
    "models": 100,
    "pull m --all": 100,
    "init 127.0.0.1:1": 95,
    "backup --help": 15,
    "probe --help": 15,
    "pull --help": 15,
    "init --help": 15,
    "serve --config missing.toml": 45,
}
"""Modules of the gateway that a command may import; the whole has more than 250."""


def modules_of(command: str, directory: Path) -> list[str]:
    """Run a command in a process of its own and return the modules that it imported."""
    said = subprocess.check_output(
        [sys.executable, "-c", LOOK, *command.split()],
        text=True,
        timeout=PATIENCE,
        cwd=directory,
        env={
            "GATEWAY_STORAGE_DATA_DIR": str(directory / "data"),
            "GATEWAY_SERVER_ADMIN_BIND": "127.0.0.1:1",
            "OLLAMA_BACKENDS": "a=http://127.0.0.1:1",
            "GATEWAY_DISCOVERY_TIMEOUT": "100ms",
        },
        stderr=subprocess.DEVNULL,
    )
    return said.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("command", NEVER)
def test_a_command_imports_only_what_it_runs(command: str, tmp_path: Path) -> None:
    """No command waits for the libraries and modules of others."""
    found = modules_of(command, tmp_path)

    assert {name.partition(".")[0] for name in found} & NEVER[command] == set()
    assert len([name for name in found if name.startswith("ollama_gateway")]) <= MOST[command]


COLLECTING = """
import atexit, gc, sys
from ollama_gateway import __main__
collected = []
gc.callbacks.append(lambda phase, _: collected.append(phase))
imported = __main__._imported
def importing(arguments):
    collected.clear()
    run = imported(arguments)
    during = len(collected)
    return lambda: print(during, gc.isenabled(), gc.get_freeze_count() > 10_000) or run()
__main__._imported = importing
atexit.register(print, "torn down")
__main__.main()
"""


def test_a_command_collects_no_modules_and_is_not_torn_down(tmp_path: Path) -> None:
    """No garbage is looked for while modules are imported, and the last line printed is whole."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTING, "config", "show", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={},
        check=True,
    )
    first, _, rest = done.stdout.partition("\n")

    assert first == "0 True True"
    assert json.loads(rest)["source"] is None


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_causes_no_trace(stream: int, tmp_path: Path) -> None:
    """A command whose stdout or stderr the shell has closed ends as with an open one."""
    shell = f"{sys.executable} -m ollama_gateway keys list {stream}>&-"
    done = subprocess.run(
        ["/bin/sh", "-c", shell],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={"GATEWAY_STORAGE_DATA_DIR": str(tmp_path / "data")},
        check=False,
    )

    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_say_themselves(name: str) -> None:
    """The help in the list, which imports no command, is the first paragraph of its own."""
    command = command_named(name)

    assert command.name == name
    assert COMMANDS[name][1] == " ".join(command.help.split("\n\n")[0].split())


def test_the_list_names_every_command() -> None:
    """`--help` lists them all, and each is found by its name."""
    listed = CliRunner().invoke(app, ["--help"]).stdout

    assert all(f" {name} " in listed for name in COMMANDS)
    assert "No such command 'keyz'. Did you mean 'keys'?" in (
        CliRunner().invoke(app, ["keyz"]).stderr.replace("│", "")
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gatewayctl ke", {"keys"}),
        ("gatewayctl keys rev", {"revoke"}),
        ("gatewayctl health --re", {"--ready"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: set[str]) -> None:
    """A shell is offered the commands, and the subcommands and options of one."""
    words = typed.split()
    asked = {
        "_GATEWAYCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),  # as typer's script for bash joins them
        "COMP_CWORD": str(len(words) - 1),
    }
    said = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=asked,
        check=True,
    )

    assert {line for line in said.stdout.splitlines() if not line.startswith("mod")} == offered


@pytest.mark.parametrize("arguments", ["--json --config {}", "--config {}", "--config {} --ready"])
def test_health_answers_alike_on_both_ways(arguments: str, tmp_path: Path) -> None:
    """`health` without typer and with it print the same lines and exit alike."""
    settings = tmp_path / "gateway.toml"
    settings.write_text('[server]\nadmin_bind = "127.0.0.1:1"\n')
    words = arguments.format(settings).split()
    short = subprocess.run(
        [sys.executable, "-m", "ollama_gateway", "health", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={},
        check=False,
    )
    with_typer = CliRunner().invoke(app, ["health", *words])

    assert (short.returncode, short.stdout) == (with_typer.exit_code, with_typer.stdout)


def test_version_is_that_of_the_package() -> None:
    """`--version` prints one line and exits 0."""
    found = CliRunner().invoke(app, ["--version"])

    assert (found.exit_code, found.stdout) == (0, f"ollama-gateway {version('ollama-gateway')}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--confg", "x"], ["--config"], ["x"]])
def test_health_leaves_help_and_mistakes_to_typer(arguments: list[str]) -> None:
    """Only plain options are read without typer."""
    assert question_of(arguments) is None


@pytest.mark.parametrize("command", ["health", "config show"])
def test_a_reader_who_leaves_causes_no_trace(command: str, tmp_path: Path) -> None:
    """A command whose stdout is closed ends with 1, and stderr stays empty."""
    (tmp_path / "gateway.toml").touch()
    shell = f"{sys.executable} -m ollama_gateway {command}; echo $? >&2"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as closed:
        said = subprocess.run(
            ["/bin/sh", "-c", shell],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            cwd=tmp_path,
            env={"GATEWAY_SERVER_ADMIN_BIND": "127.0.0.1:1"},
            check=False,
        )

    assert said.stderr == "1\n"
