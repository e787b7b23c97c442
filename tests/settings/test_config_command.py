from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ollama_gateway.cli.config import app
from ollama_gateway.cli.load_settings import load_or_exit
from ollama_gateway.control.config import shown_settings
from ollama_gateway.settings import load
from ollama_gateway.settings.tables import VARIABLES

RUN = CliRunner()

SECRETS = """
[server]
admin_token = "hunter2"
[redis]
url = "redis://:hunter2@redis"
[[backends]]
name = "a"
url = "http://a"
auth_token = { env = "TOKEN" }
headers = { "X-Key" = "hunter2" }
"""
TWICE = "".join(f"[[backends]]\nname = '{name}'\nurl = 'http://a'\npriority = 1\n" for name in "ab")
THE_SAME = "backends[1].url: is the same server as backends[0]"


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty the environment and the directory, which the commands read."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("GATEWAY_", "OLLAMA_")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "arguments", "code", "stdout", "stderr"),
    [
        ({}, [], 0, "ok: no file, only defaults and environment\n", ""),
        ({"gateway.toml": TWICE}, [], 0, "ok: gateway.toml\n", f"warning: {THE_SAME}\n"),
        ({"a.toml": ""}, ["--config", "a.toml"], 0, "ok: a.toml\n", ""),
        ({}, ["--json"], 0, {"ok": True, "source": None, "warnings": [], "hints": []}, ""),
        (
            {"gateway.toml": "x = 1\n"},
            ["--json"],
            2,
            {"ok": False, "problems": ["x: unknown setting"]},
            "x: unknown setting\n",
        ),
    ],
    ids=["no file", "warning", "named file", "good as JSON", "wrong as JSON"],
)
def test_check(
    files: dict[str, str], arguments: list[str], code: int, stdout: object, stderr: str
) -> None:
    """stdout has the result, as a line or one JSON object, and stderr problems and warnings."""
    for name, text in files.items():
        Path(name).write_text(text)
    done = RUN.invoke(app, ["check", *arguments])

    found = json.loads(done.stdout) if "--json" in arguments else done.stdout
    assert (done.exit_code, found, done.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize("command", [["check"], ["show"], ["show", "--json"]])
def test_problems_are_lines_of_stderr_and_exit_2(command: list[str]) -> None:
    """Every problem is a line of stderr, and stdout is empty."""
    Path("gateway.toml").write_text("[server]\nbind = 3\nx = 1\n")
    done = RUN.invoke(app, command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "server.x: unknown setting",
        'server.bind: 3 is not an address like "127.0.0.1:11435", "[::1]:11435"',
    ]


def test_show_prints_value_and_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value has the form of a settings file, with its source beside it."""
    Path("gateway.toml").write_text("[server]\nmax_body = '1048576B'\n")
    monkeypatch.setenv("GATEWAY_SERVER_DRAIN_TIMEOUT", "60s")
    lines = [line.split() for line in RUN.invoke(app, ["show"]).stdout.splitlines()]
    assert ["server.max_body", "1MiB", "file"] in lines
    assert ["server.drain_timeout", "1m", "environment"] in lines
    assert ["server.bind", "127.0.0.1:11435", "default"] in lines
    assert ["server.admin_token", "(not", "set)", "default"] in lines


def test_show_as_json_has_every_setting() -> None:
    """The JSON object has every setting by its path."""
    Path("gateway.toml").write_text(SECRETS.replace('{ env = "TOKEN" }', '"x"'))
    shown = json.loads(RUN.invoke(app, ["show", "--json"]).stdout)
    assert shown["source"] == "gateway.toml"
    paths = {path for path in shown["settings"] if not path.startswith("backends")}
    assert paths == {".".join(pair) for pair in VARIABLES.values()}
    assert shown["settings"]["race.idle_timeout"] == {"value": "5m", "origin": "default"}
    assert shown["settings"]["backends[0].headers"]["value"] == {"X-Key": "(set)"}
    assert shown["settings"]["backends[0].models"]["value"] == ["*"]


@pytest.mark.parametrize("command", [["check"], ["check", "--json"], ["show"], ["show", "--json"]])
def test_no_command_prints_a_secret(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No output shows a secret, whether the settings are good or not."""
    monkeypatch.setenv("TOKEN", "hunter2")
    for end, code in (("", 0), ("nonsense = 1\nurl = 3\n", 2)):
        Path("gateway.toml").write_text(SECRETS + end)
        done = RUN.invoke(app, command)
        assert done.exit_code == code
        assert "hunter2" not in done.stdout + done.stderr


def test_odd_text_in_a_value_stays_on_its_line(tmp_path: Path) -> None:
    """Escape sequences and undecodable bytes are shown escaped."""
    environ = {"GATEWAY_STORAGE_DATA_DIR": "/a\x1b[0m\n\udcff"}
    (setting,) = [
        r for r in shown_settings(load(None, environ, tmp_path)) if r.path == "storage.data_dir"
    ]
    assert json.dumps(setting.value) == r'"/a\u001b[0m\n\udcff"'


def test_show_prints_odd_text_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters of a value do not reach the terminal."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", "/a\x1b[0m\n\udcff")
    done = RUN.invoke(app, ["show"])
    assert done.exit_code == 0
    assert r'"/a\u001b[0m\n\udcff"' in done.stdout


def test_load_or_exit_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Without usable settings, other commands end as `config check` does."""
    Path("gateway.toml").touch()
    assert load_or_exit(None).source == Path("gateway.toml")
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Path("missing.toml"))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "missing.toml: no such file or directory\n"
