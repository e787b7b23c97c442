"""Files with secrets that others may write are refused, with the name of the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.settings import SettingsError, load

TOKEN = "a-token-of-the-test"
WITH_SECRET = f"[server]\nadmin_token = '{TOKEN}'\n"
BACKEND = "[[backends]]\nname = 'a'\nurl = 'http://a'\n"


def problems_in(cwd: Path, **environ: str) -> list[str]:
    """Return the problems, without the directory in the paths."""
    try:
        load(environ=environ, cwd=cwd)
    except SettingsError as error:
        return [problem.replace(f"{cwd}/", "") for problem in error.problems]
    return []


def put(path: Path, text: str, mode: int) -> None:
    """Write a file with this mode."""
    path.write_text(text)
    path.chmod(mode)


def fault(name: str, file: str, mode: str = "0666") -> str:
    """Return the expected problem of a file."""
    return (
        f"{name}: the file {file} others may write (mode {mode}): chmod go-w it,"
        " or set storage.allow_shared_data_dir"
    )


@pytest.mark.parametrize("mode", [0o666, 0o602])
@pytest.mark.parametrize(
    ("document", "name"),
    [
        (WITH_SECRET, "server.admin_token"),
        ("[redis]\nurl = 'redis://:pw@h'", "redis.url"),
        ("[audit]\nchain_key = 'k'\n" + WITH_SECRET, "server.admin_token"),
        (BACKEND + "auth_token = 't'", "backends[0].auth_token"),
        (BACKEND + "headers = { X-A = 't' }", "backends[0].headers"),
    ],
)
def test_the_file_itself(tmp_path: Path, document: str, name: str, mode: int) -> None:
    """A settings file with a secret must not be writable; it is reported once."""
    put(tmp_path / "gateway.toml", document, mode)
    assert problems_in(tmp_path) == [fault(name, "gateway.toml", f"{mode:04o}")]
    (tmp_path / "gateway.toml").chmod(0o644)
    assert problems_in(tmp_path) == []


def test_a_file_without_a_secret(tmp_path: Path) -> None:
    """A file without a secret may be writable, also if the environment holds the secret."""
    document = BACKEND + "auth_token = { env = 'T' }\n[server]\nadmin_token = ''"
    put(tmp_path / "gateway.toml", document, 0o666)
    assert problems_in(tmp_path, T=TOKEN) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"GATEWAY_SERVER_ADMIN_TOKEN={TOKEN}", "GATEWAY_SERVER_ADMIN_TOKEN"),
        ("OLLAMA_AUTH_TOKEN=t", "OLLAMA_AUTH_TOKEN"),
        (
            """OLLAMA_BACKENDS='[{"name": "a", "url": "http://a", "auth_token": "t"}]'""",
            "OLLAMA_BACKENDS[0].auth_token",
        ),
    ],
)
def test_the_dotenv_file(tmp_path: Path, line: str, name: str) -> None:
    """`.env` must not be writable if a secret comes from it."""
    put(tmp_path / ".env", line + "\n", 0o666)
    assert problems_in(tmp_path) == [fault(name, ".env")]
    variable, _, value = line.partition("=")
    assert problems_in(tmp_path, **{variable: value.strip("'")}) == []
    put(tmp_path / ".env", "GATEWAY_LOG_LEVEL=debug\n", 0o666)
    assert problems_in(tmp_path) == []


def test_a_file_that_a_secret_names(tmp_path: Path) -> None:
    """The file, its directory, a link's target and `.env` must not be writable."""
    put(tmp_path / "token", TOKEN, 0o444)
    put(tmp_path / "gateway.toml", "[server]\nadmin_token = { file = 'link' }", 0o644)
    (tmp_path / "link").symlink_to("token")
    assert problems_in(tmp_path) == []
    (tmp_path / "token").chmod(0o666)
    assert problems_in(tmp_path) == [fault("server.admin_token", "link")]
    (tmp_path / "token").chmod(0o444)
    tmp_path.chmod(0o777)
    (problem,) = problems_in(tmp_path)
    assert "link lies in a directory that others may write (mode 0777)" in problem
    tmp_path.chmod(0o1777)
    assert problems_in(tmp_path) == []
    put(tmp_path / "gateway.toml", "[server]\nadmin_token = { env = 'T' }", 0o644)
    put(tmp_path / ".env", f"T={TOKEN}", 0o666)
    assert problems_in(tmp_path) == [fault("server.admin_token", ".env")]


def test_it_can_be_allowed(tmp_path: Path) -> None:
    """allow_shared_data_dir allows it; other problems are still reported."""
    put(tmp_path / "gateway.toml", WITH_SECRET + "bind = '?'", 0o666)
    assert len(problems_in(tmp_path)) == 2
    assert len(problems_in(tmp_path, GATEWAY_STORAGE_ALLOW_SHARED_DATA_DIR="true")) == 1
    shared = "[storage]\nallow_shared_data_dir = true\n"
    put(tmp_path / "gateway.toml", shared + WITH_SECRET, 0o666)
    assert problems_in(tmp_path) == []
