from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ollama_gateway.settings import Loaded, SettingsError, load

SECTIONS = st.sampled_from(["[server]", "[[backends]]", "[race]", "[redis]", "[x]", "[[server]]"])
KEYS = st.sampled_from(["bind", "url", "name", "headers", "max_body", "admin_token", "keep", "x.y"])
VALUES = st.sampled_from(
    [
        "''",
        "'a'",
        "3",
        "-1",
        "nan",
        "true",
        "[]",
        "[[]]",
        "{}",
        "{env='A'}",
        "{file='/'}",
        "1979-05-27",
        "0x" + "f" * 50,
        '"\\u0000"',
        "{a={b=1}}",
        "'http://a'",
    ]
)
LINES = st.one_of(SECTIONS, st.builds("{} = {}".format, KEYS, VALUES))


def attempt(directory: Path, content: bytes) -> Loaded | SettingsError:
    """Load these bytes and return the settings or the error."""
    file = directory / "gateway.toml"
    file.write_bytes(content)
    try:
        return load(file, {}, directory)
    except SettingsError as exc:
        return exc


def is_well_reported(found: Loaded | SettingsError) -> bool:
    """True for settings, or for problems that are printable lines with a path."""
    if isinstance(found, Loaded):
        return True
    return bool(found.problems) and all(": " in p and p.isprintable() for p in found.problems)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff", "is not UTF-8 text"),
        (b"a = 1\nb = = 2\n", "is not TOML: Invalid value (at line 2, column 5)"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value (at line 2"),
        (b"server: &a\n  - *a\n", "is not TOML: "),
        pytest.param(b"#" * (1024 * 1024 + 1), "is larger than 1048576 bytes", id="large"),
        pytest.param(b"a = " + b"[" * 50_000, "is not TOML: nested too deeply", id="deep"),
        pytest.param(b"a = " + b"9" * 5000, "is not TOML: it holds a number", id="long"),
        (b"a = \x00", "is not TOML: "),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    """A fault of encoding, syntax, size or depth is one line."""
    found = attempt(tmp_path, content)
    assert isinstance(found, SettingsError)
    (problem,) = found.problems
    assert problem.startswith(f"{tmp_path / 'gateway.toml'}: {expected}")


@pytest.mark.parametrize("content", [b"", b"\n\n# nothing\n", b"\xef\xbb\xbf[server]\n"])
def test_an_empty_file_is_good(tmp_path: Path, content: bytes) -> None:
    """A file without settings gives the defaults."""
    assert isinstance(attempt(tmp_path, content), Loaded)


def test_a_comment_of_one_mebibyte_is_good(tmp_path: Path) -> None:
    """A file of exactly the limit is read."""
    assert isinstance(attempt(tmp_path, b"#" * 1024 * 1024), Loaded)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("directory", "is a directory"),
        ("loop", "too many levels of symbolic links"),
        ("pipe", "is not a regular file"),
    ],
)
def test_what_is_no_file(tmp_path: Path, kind: str, expected: str) -> None:
    """It is a problem even if no option names it, and a pipe does not hang the start."""
    file = tmp_path / "gateway.toml"
    match kind:
        case "directory":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
        case _:
            os.mkfifo(file)
    for config in (None, file):
        with pytest.raises(SettingsError) as caught:
            load(config, {}, tmp_path)
        assert caught.value.problems == (f"{file}: {expected}",)


@pytest.mark.parametrize(
    "name", ["a\0b", "a\nb", "\udcff", "~no-such-user-here/x", pytest.param("x" * 5000, id="long")]
)
def test_an_odd_name_of_a_file(tmp_path: Path, name: str) -> None:
    """A file name that the system refuses is one printable line."""
    for config, environ in ((Path(name), {}), (None, {"GATEWAY_CONFIG": name})):
        with pytest.raises(SettingsError) as caught:
            load(config, environ, tmp_path)
        (problem,) = caught.value.problems
        assert problem.isprintable()


def test_a_directory_called_dotenv_is_left_alone(tmp_path: Path) -> None:
    """A directory `.env`, often a virtual environment, is ignored."""
    (tmp_path / ".env").mkdir()
    assert load(None, {}, tmp_path).warnings == ()


def test_a_broken_dotenv_is_a_problem(tmp_path: Path) -> None:
    """A `.env` that cannot be read is a problem."""
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(SettingsError) as caught:
        load(None, {}, tmp_path)
    assert caught.value.problems == (".env: is not UTF-8 text",)


@given(content=st.binary(max_size=200))
@example(content=b"[server]\nbind = 3\n")
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_settings_or_an_error(tmp_path: Path, content: bytes) -> None:
    """Any file content gives settings or SettingsError."""
    assert is_well_reported(attempt(tmp_path, content))


@given(lines=st.lists(LINES, max_size=12))
@example(lines=["[[backends]]", "headers = {a={b=1}}", "[server]", "max_body = nan"])
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_toml_is_settings_or_an_error(tmp_path: Path, lines: list[str]) -> None:
    """Any TOML that looks like settings gives settings or SettingsError."""
    assert is_well_reported(attempt(tmp_path, "\n".join(lines).encode()))


@given(text=st.text(st.characters(exclude_characters="\0"), max_size=60))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_variables_are_settings_or_an_error(tmp_path: Path, text: str) -> None:
    """Any text in variables, undecodable bytes included, gives settings or SettingsError."""
    names = ["OLLAMA_BACKENDS", "OLLAMA_BASE_URL", "GATEWAY_SERVER_BIND", "GATEWAY_AUDIT_KEEP"]
    names += ["GATEWAY_REDIS_URL", "GATEWAY_X" + text]
    found: Loaded | SettingsError
    try:
        found = load(None, dict.fromkeys(names, text), tmp_path)
    except SettingsError as exc:
        found = exc
    assert is_well_reported(found)
