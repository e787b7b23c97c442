"""`config check` finds what would keep `serve` from starting, and asks the servers if told to."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import structlog.testing
from typer.testing import CliRunner

from ollama_gateway.cli.config import app
from ollama_gateway.cli.serve import _warn_of_redis
from ollama_gateway.cli.startable import faults_of_start
from ollama_gateway.settings import Settings, load
from ollama_gateway.storage.redis_faults import RedisFault
from tests.smoke.fleet import free_port
from tests.support.redis_server import RedisServer, private_redis

RUN = CliRunner()
SECRET = "hunter2"


def settings_of(directory: Path, **environ: str) -> Settings:
    """Load settings from variables."""
    given = {f"GATEWAY_{name.upper()}": value for name, value in environ.items()}
    return load(
        None, {"GATEWAY_STORAGE_DATA_DIR": str(directory / "data"), **given}, directory
    ).settings


@pytest.fixture
def in_use() -> Iterator[int]:
    """Listen on a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("nowhere.invalid:0", "cannot listen on nowhere.invalid:0: "),
        ("192.0.2.1:0", "cannot listen on 192.0.2.1:0: Cannot assign requested address"),
        ("[2001:db8::1]:0", "cannot listen on [2001:db8::1]:0: "),
    ],
)
def test_an_address_that_cannot_be_bound(tmp_path: Path, address: str, fault: str) -> None:
    """It is named with its setting; only this machine knows whether it can be bound."""
    (found,) = faults_of_start(settings_of(tmp_path, server_bind=address))
    assert found.startswith(f"server.bind: {fault}")


def test_an_address_in_use_is_no_fault(tmp_path: Path, in_use: int) -> None:
    """The gateway whose settings are checked may be running."""
    assert not list(faults_of_start(settings_of(tmp_path, server_bind=f"127.0.0.1:{in_use}")))


def test_a_directory_that_cannot_be_one(tmp_path: Path) -> None:
    """A file, a path below one, a loop and a name that is too long are refused, each in a line."""
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    faults = {
        "file": "is not a directory",
        "file/below": "is below a file",
        "loop": "too many levels of symbolic links",
        "x" * 300: "file name too long",
    }
    for name, fault in faults.items():
        path = tmp_path / name
        (found,) = faults_of_start(settings_of(tmp_path, storage_data_dir=str(path)))
        assert found == f"storage.data_dir: {path}: {fault}"
    assert not list(
        faults_of_start(settings_of(tmp_path, storage_data_dir=str(tmp_path / "new/er")))
    )


WRONG_VALUES = [
    *(("GATEWAY_SERVER_BIND", f"{host}:1") for host in ("a..b", "x" * 64, "256.1.1.1")),
    *(("OLLAMA_BASE_URL", f"http://{host}") for host in ("a..b", "x" * 64, "256.1.1.1")),
    ("OLLAMA_BASE_URL", "http://a/" + "x" * 70_000),
    *(("GATEWAY_STORAGE_DATABASE_URL", f"postgresql://{host}/x") for host in ("a..b", "x" * 64)),
    *(
        ("GATEWAY_STORAGE_DATABASE_URL", f"postgresql://127.0.0.1/x?{parameter}")
        for parameter in ("sslmode=x", "connect_timeout=x", "port=0", "port=99999", "keepalives=x")
    ),
    ("GATEWAY_REDIS_URL", "redis://127.0.0.1?encoder_class=x"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_ca_certs=/nowhere"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_ca_certs=/dev/null"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_ca_path=/nowhere"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_keyfile=gateway.pem"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_certfile=gateway.pem"),
    ("GATEWAY_REDIS_URL", "rediss://127.0.0.1?ssl_ciphers=BOGUS"),
    ("GATEWAY_REDIS_TIMEOUT", "1ms"),
    ("GATEWAY_REDIS_TIMEOUT", "1m"),
]


@pytest.fixture
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no variable of the gateway, and no file but an empty one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.pem").write_text("")
    for name in list(os.environ):
        if name.startswith(("GATEWAY_", "OLLAMA_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_value_that_would_fail_later(no_variables: None, name: str, value: str) -> None:
    """What a client library would refuse no sooner than it connects is refused in one line."""
    done = RUN.invoke(app, ["check"], env={name: value})
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "/nowhere" not in done.stderr


def test_parameters_without_effect_are_warned_of(no_variables: None) -> None:
    """A timeout in the URL stays valid, and is said to have no effect."""
    env = {"GATEWAY_REDIS_URL": "redis://127.0.0.1?socket_timeout=9"}
    done = RUN.invoke(app, ["check"], env=env)
    warning = "GATEWAY_REDIS_URL: its socket_timeout has no effect: the gateway sets it"
    assert (done.exit_code, done.stderr) == (0, f"warning: {warning}\n")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Run a Redis that keeps its data, with a user."""
    with private_redis("--appendonly", "yes") as started:
        with redis.Redis.from_url(started.url) as client:
            client.execute_command("ACL", "SETUSER", "bob", "on", f">{SECRET}", "~*", "+@all")
        yield started


def online(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the check with a backend that is down; return its exit code and what it wrote."""
    url = f"http://127.0.0.1:{free_port()}"
    done = RUN.invoke(app, ["check", "--online", *arguments], env={"OLLAMA_BASE_URL": url, **env})
    return done.exit_code, done.stdout, done.stderr


def test_each_server_is_asked(no_variables: None, server: RedisServer) -> None:
    """A line for each server, in the order of Redis, PostgreSQL, backends, and exit code 1."""
    database = f"postgresql://127.0.0.1:{free_port()}/x"
    code, stdout, stderr = online(
        GATEWAY_REDIS_URL=server.url, GATEWAY_STORAGE_DATABASE_URL=database
    )
    assert code == 1
    assert stdout.splitlines()[1:] == [
        "redis: ok",
        "postgresql: PostgreSQL cannot be reached",
        "backends.default: cannot connect: refused",
    ]
    assert "appendonly yes" in stderr


def test_the_cause_is_in_the_json(no_variables: None, server: RedisServer) -> None:
    """A program finds the word, a person the line; neither finds the password."""
    url = f"redis://bob:{SECRET}x@127.0.0.1:{server.port}/0"
    code, stdout, stderr = online("--json", GATEWAY_REDIS_URL=url)
    found = json.loads(stdout)
    assert (code, found["ok"]) == (1, False)
    of_redis, backend = found["online"]
    fault = RedisFault.WRONG_PASSWORD
    assert (of_redis["ok"], of_redis["cause"], of_redis["error"]) == (False, fault.word, fault.line)
    assert (backend["name"], backend["ok"]) == ("backends.default", False)
    assert SECRET not in stdout + stderr


def test_a_full_redis_is_found(no_variables: None, server: RedisServer) -> None:
    """Redis refuses the first write that needs memory, and no write after one that needs none."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        _, stdout, _ = online("--json", GATEWAY_REDIS_URL=server.url)
        client.config_set("maxmemory", 0)
    assert json.loads(stdout)["online"][0]["cause"] == "out_of_memory"


def test_a_start_warns_of_a_redis_that_keeps_its_data(tmp_path: Path, server: RedisServer) -> None:
    """An old state would be believed."""
    with structlog.testing.capture_logs() as lines:
        _warn_of_redis(settings_of(tmp_path, redis_url=server.url))
        _warn_of_redis(settings_of(tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}"))
        _warn_of_redis(settings_of(tmp_path))
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("doubtful setting", "warning")
    assert "appendonly yes" in line["warning"]
