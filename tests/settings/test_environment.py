from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.settings import SettingsError, load
from ollama_gateway.settings.tables import VARIABLES
from tests.settings.conftest import Load, Problems


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("GATEWAY_SERVER_MAX_CONNECTIONS", "7", 7),
        ("GATEWAY_SERVER_DRAIN_TIMEOUT", "250ms", 0.25),
        ("GATEWAY_SERVER_MAX_BODY", "2MiB", 2 * 2**20),
        ("GATEWAY_SERVER_MAX_BODY", "2097152", 2 * 2**20),
        ("GATEWAY_SERVER_EXPOSE_BACKEND", "1", True),
        ("GATEWAY_SERVER_EXPOSE_BACKEND", "false", False),
        ("GATEWAY_RACE_MAX_HEDGE_RATIO", "0.5", 0.5),
        ("GATEWAY_RACE_MAX_HEDGE_RATIO", "1", 1.0),
        ("GATEWAY_RACE_HEDGE_AFTER", "auto", "auto"),
        ("GATEWAY_STORAGE_DATA_DIR", "/data", Path("/data")),
        ("GATEWAY_LOG_FORMAT", "json", "json"),
    ],
)
def test_a_variable_is_read_as_its_setting(
    tmp_path: Path, name: str, text: str, expected: object
) -> None:
    """The text is read as the same setting in the file."""
    found = load(None, {name: text}, tmp_path)
    section, key = VARIABLES[name]
    assert getattr(getattr(found.settings, section), key) == expected
    assert found.origins[f"{section}.{key}"] == "environment"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GATEWAY_SERVER_MAX_CONNECTIONS", "many"),
        ("GATEWAY_SERVER_MAX_CONNECTIONS", "1.5"),
        pytest.param("GATEWAY_SERVER_MAX_CONNECTIONS", "9" * 5000, id="long"),
        ("GATEWAY_SERVER_DRAIN_TIMEOUT", "30"),
        ("GATEWAY_SERVER_MAX_BODY", "inf"),
        ("GATEWAY_SERVER_EXPOSE_BACKEND", "yes"),
        ("GATEWAY_SERVER_ALLOWED_ORIGINS", '["a", 3]'),
        pytest.param("GATEWAY_SERVER_ALLOWED_ORIGINS", "[" * 100_000, id="deep"),
        ("GATEWAY_RACE_MAX_HEDGE_RATIO", "nan"),
        ("GATEWAY_SERVER_BIND", "\udcff"),
        ("GATEWAY_SERVER_TLS_KEY", "x"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, text: str) -> None:
    """The error names the variable, not a path in the file."""
    with pytest.raises(SettingsError) as caught:
        load(None, {name: text}, tmp_path)
    assert caught.value.problems[0].startswith(f"{name}: ")
    assert all(len(problem) < 600 for problem in caught.value.problems)


def test_a_secret_in_a_variable_is_the_string_itself(tmp_path: Path) -> None:
    """The text of the variable is the secret, even if it looks like a table."""
    text = '{"env": "X"}'
    token = load(None, {"GATEWAY_SERVER_ADMIN_TOKEN": text}, tmp_path).settings.server.admin_token
    assert token is not None
    assert token.reveal() == text


def test_the_environment_wins_over_dotenv_over_the_file(loaded: Load, tmp_path: Path) -> None:
    """Each value comes from the strongest source and has its origin."""
    (tmp_path / ".env").write_text("GATEWAY_RACE_MAX_ATTEMPTS=2\nGATEWAY_LOG_LEVEL=debug\n")
    found = loaded(
        "[race]\nmax_attempts = 1\nconnect_timeout = '1s'\n[log]\nlevel = 'error'\n",
        {"GATEWAY_RACE_MAX_ATTEMPTS": "5"},
    )
    assert found.settings.race.max_attempts == 5
    assert found.settings.race.connect_timeout == 1
    assert found.settings.log.level == "debug"
    assert found.origins["race.max_attempts"] == "environment"
    assert found.origins["race.connect_timeout"] == "file"
    assert found.origins["log.level"] == "environment"
    assert found.origins["log.format"] == "default"


def test_a_variable_mends_the_file(loaded: Load) -> None:
    """A wrong value in the file is no problem if a variable replaces it."""
    found = loaded("[race]\nmax_attempts = 'x'\n", {"GATEWAY_RACE_MAX_ATTEMPTS": "5"})
    assert found.settings.race.max_attempts == 5


def test_an_empty_variable_counts_as_unset(loaded: Load, tmp_path: Path) -> None:
    """An empty variable hides neither the file nor .env."""
    (tmp_path / ".env").write_text("GATEWAY_RACE_MAX_ATTEMPTS=2\nGATEWAY_LOG_FORMAT=\n")
    empty = ["GATEWAY_LOG_LEVEL", "GATEWAY_CONFIG", "OLLAMA_BACKENDS", "OLLAMA_BASE_URL"]
    environ = dict.fromkeys([*empty, "OLLAMA_AUTH_TOKEN", "GATEWAY_RACE_MAX_ATTEMPTS"], "")
    found = loaded("[log]\nlevel = 'error'\nformat = 'json'", environ)
    assert found.settings.log.level == "error"
    assert found.settings.log.format == "json"
    assert found.settings.race.max_attempts == 2
    assert found.settings.backends[0].name == "default"


def test_dotenv_values_are_taken_as_they_stand(loaded: Load, tmp_path: Path) -> None:
    """`${HOME}` in a value is not expanded, and `{ env = ... }` reads .env too."""
    (tmp_path / ".env").write_text("T=a${HOME}$b\nBARE\n")
    found = loaded("[server]\nadmin_token = { env = 'T' }", {})
    assert found.settings.server.admin_token is not None
    assert found.settings.server.admin_token.reveal() == "a${HOME}$b"


def test_unknown_variables_are_warnings(loaded: Load) -> None:
    """The warning suggests the nearest name; variables of other programs cause none."""
    found = loaded(
        "",
        {"GATEWAY_SERVER_BNID": "x", "GATEWAY_9\n": "x", "GATEWAY_BACKENDS": "x", "PATH": "x"},
    )
    assert found.warnings == (
        r'"GATEWAY_9\n": unknown variable',
        "GATEWAY_BACKENDS: unknown variable (did you mean OLLAMA_BACKENDS?)",
        "GATEWAY_SERVER_BNID: unknown variable (did you mean GATEWAY_SERVER_BIND?)",
    )


def test_problems_of_all_sources_come_together(problems: Problems, tmp_path: Path) -> None:
    """A broken file does not hide problems of the environment."""
    (tmp_path / ".env").write_bytes(b"\xff")
    found = problems("broken", {"GATEWAY_LOG_LEVEL": "x", "OLLAMA_BACKENDS": "http://a"})
    assert {problem.partition(": ")[0] for problem in found} == {
        ".env",
        str(tmp_path / "gateway.toml"),
        "OLLAMA_BACKENDS",
        "GATEWAY_LOG_LEVEL",
    }
