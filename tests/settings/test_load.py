from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.settings import ListenAddress, Settings, SettingsError, files, load
from tests.settings.conftest import Load, Problems

MANY_WRONG = """
bind = "x"
[raec]
[server]
bind = "x"
admin_bind = "0.0.0.0:11436"
drain_timeout = "5 parsecs"
max_body = "2GiB"
"odd\\nkey" = 1
[[backends]]
name = "gpu-1"
url = "http://ada:hunter2@10.0.0.5"
slots = -4
[[backends]]
name = "gpu-1"
headers = { "a b" = "x", "X-N" = 3, Host = "h", "X-A" = "1", "x-a" = "2" }
auth_tokn = "hunter2"
[race]
hedge_aftr = "2s"
max_attempts = 0
[redis]
url = "http://:hunter2@redis"
"""


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """Without file and variables: the defaults, and one Ollama on this machine."""
    found = load(None, {}, tmp_path)
    assert found.source is None
    assert found.warnings == ()
    assert set(found.origins.values()) == {"default"}
    assert found.settings == Settings(backends=found.settings.backends)
    (backend,) = found.settings.backends
    assert (backend.name, backend.url) == ("default", "http://127.0.0.1:11434")


def test_values_arrive_in_plain_units(loaded: Load) -> None:
    """Durations are seconds, sizes bytes, addresses host and port, empty strings None."""
    found = loaded(
        '[server]\nbind = "[::1]:1"\ndrain_timeout = "250ms"\nmax_body = "1KiB"\ntls_cert = ""\n'
        'admin_token = ""\nexpose_backend = true\n[race]\nhedge_after = "off"\n'
    ).settings
    assert found.server.bind == ListenAddress("::1", 1)
    assert found.server.drain_timeout == 0.25
    assert found.server.max_body == 1024
    assert found.server.tls_cert is None
    assert found.server.admin_token is None
    assert found.server.expose_backend is True
    assert found.race.hedge_after == "off"


def test_every_problem_is_reported_at_once(problems: Problems) -> None:
    """One run reports every wrong key with its path, and no secret."""
    assert sorted(problems(MANY_WRONG, {"GATEWAY_RACE_IDLE_TIMEOUT": "3"})) == sorted(
        [
            "bind: unknown setting (did you mean server.bind?)",
            "raec: unknown setting (did you mean race?)",
            'server.bind: "x" is not an address like "127.0.0.1:11435", "[::1]:11435"',
            'server.drain_timeout: "5 parsecs" is not a duration like "250ms", "30s", "5m"',
            r'server."odd\nkey": unknown setting',
            (
                "server.admin_token: is required, since server.admin_bind (0.0.0.0:11436) is not a "
                "loopback address"
            ),
            "server.max_body_total: 1GiB is less than server.max_body (2GiB): raise it",
            "backends[0].url: must not hold credentials: use auth_token or headers",
            "backends[0].slots: -4 is not a whole number from 0 up to 64 bits",
            "backends[1].url: is missing",
            'backends[1].name: "gpu-1" is already the name of backends[0]: choose another',
            "backends[1].auth_tokn: unknown setting (did you mean auth_token?)",
            "backends[1].headers['a b']: is not a header name",
            "backends[1].headers['Host']: is set by the gateway itself: remove it",
            "backends[1].headers['x-a']: is given twice (auth_token counts): keep one",
            'backends[1].headers[\'X-N\']: must be a string, { env = "NAME" } or { file = "PATH" }',
            "race.hedge_aftr: unknown setting (did you mean hedge_after?)",
            "race.max_attempts: 0 is not a whole number from 1 up to 64 bits",
            'GATEWAY_RACE_IDLE_TIMEOUT: "3" is not a duration like "250ms", "30s", "5m"',
            "redis.url: must begin with redis://, rediss:// or unix://",
        ]
    )


def test_the_error_reads_as_its_lines(loaded: Load) -> None:
    """str(SettingsError) has one problem a line."""
    with pytest.raises(SettingsError) as caught:
        loaded("a = 1\nb = 2\n")
    assert str(caught.value) == "a: unknown setting\nb: unknown setting"


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("server = 3", "server: must be a table: [server]"),
        ("[[server]]", "server: must be a table: [server]"),
        ("[race]\nqueue_timeout = 3", "race.queue_timeout: 3 is not a duration"),
        ("[race]\nmax_hedge_ratio = nan", "race.max_hedge_ratio: NaN is not a number from 0"),
        ("[race]\nmax_hedge_ratio = inf", "race.max_hedge_ratio: Infinity is not a number"),
        ("[server]\nmax_connections = -1", "server.max_connections: -1 is not a whole number"),
        ("[server]\nmax_connections = 1e3", "server.max_connections: 1000.0 is not a whole"),
        ("[server]\nmax_body = 0x" + "f" * 99, "server.max_body: a number beyond 64 bits"),
        ("[server]\nexpose_backend = 1", "server.expose_backend: 1 is not true or false"),
        ("[server]\nadmin_token = 5", "server.admin_token: must be a string"),
        ("[server]\nadmin_bind = '127.0.0.1:11435'", "server.admin_bind: is the same address"),
        ("[log]\nlevel = 'loud'", 'log.level: "loud" is not one of "debug", "info"'),
        ("[log]\nlevel = 2020-01-01", "log.level: a date or time is not one of"),
        ("[storage]\ndata_dir = ''", 'storage.data_dir: "" is not a path'),
        ("[storage]\ndata_dir = 'a\\u0000'", "storage.data_dir: "),
        ("[redis]\nurl = 'redis://'", "redis.url: names no server"),
        ("[redis]\nurl = 'redis://a:99999'", "redis.url: is not a URL"),
        ("[redis]\nurl = 'unix://'", "redis.url: names no server"),
        ("[audit]\nkeep = '0s'", "audit.keep: must be longer than 0s"),
    ],
)
def test_one_wrong_value(problems: Problems, toml: str, expected: str) -> None:
    """The problem begins with the path and says which values are valid."""
    if "u0000" in toml:
        toml = toml.replace("'", '"')
    (problem,) = problems(toml)
    assert problem.startswith(expected)


@pytest.mark.parametrize("url", ["redis://a", "rediss://:pw@a:6380/1", "unix:///run/redis.sock"])
def test_good_redis_urls(loaded: Load, url: str) -> None:
    """All three schemes of redis-py are accepted."""
    found = loaded(f"[redis]\nurl = '{url}'").settings.redis.url
    assert found is not None
    assert found.reveal() == url


@pytest.mark.parametrize(
    ("present", "config", "variable", "expected"),
    [
        ({"named", "env", "here", "etc"}, "named", "env", "named"),
        ({"env", "here", "etc"}, None, "env", "env"),
        ({"here", "etc"}, None, None, "here"),
        ({"etc"}, None, None, "etc"),
        (set(), None, None, None),
    ],
)
def test_the_first_file_of_four_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    present: set[str],
    config: str | None,
    variable: str | None,
    expected: str | None,
) -> None:
    """The order is --config, $GATEWAY_CONFIG, ./gateway.toml, the system's file."""
    paths = {"named": "a.toml", "env": "b.toml", "here": "gateway.toml", "etc": "etc.toml"}
    monkeypatch.setattr(files, "SYSTEM_FILE", tmp_path / paths["etc"])
    for name in present:
        (tmp_path / paths[name]).write_text("")
    environ = {"GATEWAY_CONFIG": paths[variable]} if variable else {}
    found = load(Path(paths[config]) if config else None, environ, tmp_path)
    assert found.source == (tmp_path / paths[expected] if expected else None)
    assert found.warnings == ()


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_file_asked_for_by_name_must_exist(tmp_path: Path, *, by_variable: bool) -> None:
    """No other file is read instead."""
    (tmp_path / "gateway.toml").write_text("")
    environ = {"GATEWAY_CONFIG": "missing.toml"} if by_variable else {}
    with pytest.raises(SettingsError) as caught:
        load(None if by_variable else Path("missing.toml"), environ, tmp_path)
    assert caught.value.problems == ("missing.toml: no such file or directory",)


def test_a_token_lets_the_admin_listener_out(loaded: Load) -> None:
    """With a token the admin listener may listen on any address."""
    toml = "[server]\nadmin_bind = '0.0.0.0:1'\nadmin_token = { env = 'T' }\n"
    assert loaded(toml, {"T": "secret"}).settings.server.admin_bind.port == 1


def test_tls_needs_both_halves(problems: Problems) -> None:
    """The error names the missing one."""
    found = problems("[server]\ntls_cert = 'a'")
    assert "server.tls_key: is missing: set both tls_cert and tls_key, or neither" in found
