"""No output contains a part of a secret, whatever is wrong with it or with its store."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from ollama_gateway.__main__ import gatewayctl
from ollama_gateway.cli.main import app
from tests.smoke.asking import ask
from tests.smoke.fleet import clean_environment, free_port, running
from tests.support.commands import alone, run

HEAD: Final = "Tr0ub4Qzw"
TAIL: Final = "hVnt9rXk7sEcr3tPq"
TOKEN: Final = "aDm1nZt0k3nYw8vUq6"
CHAIN: Final = "cHa1nWk3yJm5xBp2"
HEADER: Final = "hEadQv4lu3Gd8sKf"
KEY: Final = f"ogw_aaaaaaaa_{'Zx9Yw8Vu7T' * 4}abcdefgh1"
LENGTH: Final = 6
"""The length from which a substring counts as a part of a secret."""
SIGNS: Final = (*"@/#%?: [|", "\\", "%zz", "@h/", "/x@", ":1@", ":1/")
COMMANDS: Final = (
    ("config", "check"),
    ("config", "check", "--json"),
    ("config", "show"),
    ("config", "show", "--json"),
    ("db", "migrate"),
    ("db", "import-local"),
    ("keys", "list"),
    ("keys", "create", "x"),
    ("audit", "list"),
    ("audit", "verify"),
    ("usage",),
)


def parts_in(text: str) -> set[str]:
    """Return the parts of secrets in a text; a common beginning does not count."""
    secrets = (HEAD, TAIL, TOKEN, CHAIN, HEADER, KEY[len("ogw_aaaaaaaa_") :])
    parts = {s[i : i + LENGTH] for s in secrets for i in range(len(s) - LENGTH + 1)}
    return {part for part in parts if part in text}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return settings for this test, in an empty directory."""
    alone(monkeypatch, tmp_path, tmp_path / "data")
    return monkeypatch


def said(*arguments: str) -> tuple[int, str]:
    """Return the exit code of a command and all its output, tracebacks included."""
    result = run(*arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    ("variable", "shape"),
    [
        ("GATEWAY_STORAGE_DATABASE_URL", "postgresql://gw:{}@127.0.0.1:1/gateway"),
        ("GATEWAY_STORAGE_DATABASE_URL", "postgresql://gw:{}@127.0.0.1/gw?connect_timeout=1"),
        ("GATEWAY_STORAGE_DATABASE_URL", "postgresql://{}@127.0.0.1:1/gateway"),
        ("GATEWAY_STORAGE_DATABASE_URL", "postgresql://127.0.0.1:1/x?user=a&password={}"),
        ("GATEWAY_STORAGE_DATABASE_URL", "postgresql://127.0.0.1:1/x?sslpassword={}"),
        ("GATEWAY_STORAGE_DATABASE_URL", "host=127.0.0.1 port=1 password={}"),
        ("GATEWAY_REDIS_URL", "redis://:{}@127.0.0.1:1/0"),
        ("GATEWAY_REDIS_URL", "redis://127.0.0.1:1/0?password={}"),
        ("GATEWAY_REDIS_URL", "unix://u:{}@/nowhere/redis.sock"),
        ("OLLAMA_BASE_URL", "http://u:{}@127.0.0.1:1"),
        ("OLLAMA_BASE_URL", "http://u:12{}@127.0.0.1:1/x"),
        ("OLLAMA_BACKENDS", "a=http://u:{}@127.0.0.1:1,b=http://h"),
        ("OLLAMA_BACKENDS", '[{{"name": "{0}", "url": "{0}"}}]'),
        ("OLLAMA_BACKENDS", '[{{"name": "a", "url": "http://h", "auth_token": ["{}"]}}]'),
        ("OLLAMA_BACKENDS", '[{{"name": "a", "url": "http://h", "auth_token": "{}"]'),
    ],
)
def test_a_password_with_a_reserved_sign(
    settings: pytest.MonkeyPatch, variable: str, shape: str, sign: str
) -> None:
    """A reserved character in a password is refused, or read, and never shown."""
    settings.setenv(variable, shape.format(HEAD + sign + TAIL))
    code, text = said("config", "check")
    assert (code in {0, 2}, parts_in(text)) == (True, set())
    if variable == "GATEWAY_STORAGE_DATABASE_URL" and sign != ":" and "?" not in shape:
        assert code == 2
        assert "GATEWAY_STORAGE_DATABASE_URL: " in text
    for command in COMMANDS if code == 0 else (("keys", "list"), ("models",)):
        code, text = said(*command)
        assert parts_in(text) == set(), command


@pytest.mark.parametrize(
    "document",
    [
        "[redis]\nurl = redis://:{}@h",
        "[redis]\nurl = 'redis://:{}@h",
        "[redis]\n'{0}' = 1\n'{0}' = 2",
        "[redis]\nx = {{ '{0}' = 1, '{0}' = 2 }}",
        "['{0}']\n['{0}']",
        "[server]\nadmin_token = [ '{}' ]",
        "[server]\nadmin_token = {{ env = '{}-' }}",
        "[server]\nadmin_token = {{ value = '{}' }}",
        "[server]\nadmin_token = {{ file = 'redis://:{}@h' }}",
        "[server]\nbind = 'gw:{}@h'",
        "[server]\nadmin_hosts = [ 'redis://:{}@h' ]",
        "[server]\ntls_key = 'https://u:{}@h'",
        "[storage]\ndata_dir = 'postgresql://gw:{}@h/db'",
        "[server]\n'Bearer {}' = 1",
        "[auth]\nanonymous_key = '{}'",
        "[[backends]]\nname = 'a'\nurl = 'http://h'\nheaders = {{ 'Bearer {}' = 'x' }}",
        "[[backends]]\nname = 'a'\nurl = 'http://h'\nheaders = {{ 'X-A' = ['{}'] }}",
    ],
)
def test_a_file_that_is_wrong_is_not_quoted(settings: pytest.MonkeyPatch, document: str) -> None:
    """No error quotes a broken settings file, whichever reader reports it."""
    settings.delenv("GATEWAY_STORAGE_DATA_DIR")  # a variable would win over the file
    Path("gateway.toml").write_text(document.format(TAIL))
    for command in (("config", "check"), ("keys", "list")):
        code, text = said(*command)
        assert (code, parts_in(text)) == (2, set())


@pytest.mark.parametrize("line", ["GATEWAY_REDIS_URL={}", "'{}", '="{}"', "X={}\n{}\n'{}"])
def test_a_dotenv_file_that_is_wrong_is_not_quoted(
    settings: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    """A warning of the reader of `.env` shows line numbers only."""
    Path(".env").write_text(line.replace("{}", TAIL))
    _, text = said("config", "check")
    assert parts_in(text + "".join(capfd.readouterr())) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        (f"postgresql://gw:{TAIL}@h/db",),
        ("keys", "list", f"--database-url=postgresql://gw:{TAIL}@h/db"),
        ("keys", "list", f"postgresql://gw:{TAIL}@h/db"),
        ("keys", "list", "--config", f"postgresql://gw:{TAIL}@h/db"),
        ("keys", "show", KEY),
        ("keys", "revoke", KEY),
        ("audit", "show", KEY),
        ("keys", "create", "a", "--expires", KEY),
        ("explain", "m", "--key", KEY),
    ],
)
def test_a_secret_on_the_command_line_is_not_repeated(
    settings: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """An error does not repeat a secret of the command line."""
    code = gatewayctl(arguments)
    said_ = capfd.readouterr()
    assert code in {1, 2}
    assert said_.err
    assert parts_in(said_.out + said_.err) == set()


@contextmanager
def quoting() -> Iterator[int]:
    """Run a server that answers each command with a Redis error that quotes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                while asked := client.recv(4096):
                    words = asked.decode("latin-1").split("\r\n")
                    client.sendall(f"-ERR unknown command, with args: {words}\r\n".encode())

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_a_gateway_whose_stores_refuse(tmp_path: Path) -> None:
    """Log, metrics and status of a gateway contain no part of its secrets."""
    password, admin = quote(f"{HEAD}@/#{TAIL}", safe=""), free_port()
    headers = {"X-Key": HEADER}
    backend = {"name": "a", "url": "http://127.0.0.1:1", "auth_token": TAIL, "headers": headers}
    with quoting() as port:
        environment = {
            "OLLAMA_BACKENDS": json.dumps([backend]),
            "GATEWAY_SERVER_BIND": f"127.0.0.1:{free_port()}",
            "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{admin}",
            "GATEWAY_SERVER_ADMIN_TOKEN": TOKEN,
            "GATEWAY_STORAGE_DATA_DIR": str(tmp_path / "data"),
            "GATEWAY_STORAGE_DATABASE_URL": f"postgresql://{HEAD}:{password}@127.0.0.1:{port}/gw",
            "GATEWAY_REDIS_URL": f"redis://{HEAD}:{password}@127.0.0.1:{port}/0",
            "GATEWAY_AUDIT_CHAIN_KEY": CHAIN,
            "GATEWAY_LOG_LEVEL": "debug",
        }
        with running("ollama_gateway", "serve", environment=environment) as gateway:
            gateway.wait_for("serving")
            pages = [str(ask(admin, path, TOKEN).body) for path in ("/metrics", "/status.json")]
            gateway.stop()
        log = "\n".join(gateway.lines)
        text = "".join(
            _said_with(environment, *command) for command in (*COMMANDS, ("models",), ("probe",))
        )
    assert "postgresql (127.0.0.1/gw)" in log
    assert parts_in("".join([log, text, *pages])) == set()


def _said_with(environment: dict[str, str], *command: str) -> str:
    env: dict[str, str | None] = {**clean_environment(), **environment}
    result = CliRunner().invoke(app, command, env=env)
    return result.output + repr(result.exception)
