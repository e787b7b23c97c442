from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from ollama_gateway.settings import BackendSettings, SecretText
from ollama_gateway.settings.secret import MAX_SECRET_BYTES, read_secret


def test_a_secret_shows_itself_to_reveal_alone() -> None:
    """repr, str, format, asdict, JSON and an enclosing repr hide the text."""
    secret = SecretText("hunter2")
    backend = BackendSettings("a", "http://a", auth_token=secret, headers={"X-Key": secret})
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{secret:>20}"]
    texts += ["%s %r" % (secret, secret), repr(backend), repr(attrs.asdict(backend))]  # noqa: UP031
    assert secret.reveal() == "hunter2"
    assert not [text for text in texts if "hunter2" in text]
    with pytest.raises(TypeError) as caught:
        json.dumps(secret)
    assert "hunter2" not in str(caught.value)


def test_secrets_compare_by_their_text() -> None:
    """Secrets with the same text are equal."""
    assert SecretText("a") == SecretText("a")
    assert hash(SecretText("a")) == hash(SecretText("a"))
    assert SecretText("a") != SecretText("b")
    assert SecretText("a") != "a"


def test_the_three_forms(tmp_path: Path) -> None:
    """A secret is a string, a variable or a file."""
    (tmp_path / "key").write_text("from-file\n")
    environ = {"KEY": "from-env"}
    assert read_secret("plain", environ, tmp_path).reveal() == "plain"
    assert read_secret({"env": "KEY"}, environ, tmp_path).reveal() == "from-env"
    assert read_secret({"file": "key"}, environ, tmp_path).reveal() == "from-file"
    absolute = {"file": str(tmp_path / "key")}
    assert read_secret(absolute, environ, Path()).reveal() == "from-file"


@pytest.mark.parametrize("content", ["hunter2", "hunter2\n", "hunter2\r\n"])
def test_one_newline_at_the_end_of_a_file_goes(tmp_path: Path, content: str) -> None:
    """One newline at the end of a file is no part of the secret."""
    (tmp_path / "key").write_bytes(content.encode())
    assert read_secret({"file": "key"}, {}, tmp_path).reveal() == "hunter2"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hunter2\n\n",
        b"hunter2\nhunter2",
        b" hunter2",
        b"hunter2 ",
        b"hunter2\x00",
        "hünter2".encode(),
        b"hunter2\xff",
        pytest.param(b"hunter2" * MAX_SECRET_BYTES, id="long"),
    ],
)
def test_what_no_header_can_carry_is_refused(tmp_path: Path, content: bytes) -> None:
    """A text that no header can carry is refused, with the name of the file."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValueError, match="the file key") as caught:
        read_secret({"file": "key"}, {}, tmp_path)
    assert "unter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "empty"),
        ("a\nb", "one line"),
        ({"env": "MISSING"}, '"MISSING" is not set'),
        ({"env": "EMPTY"}, '"EMPTY" is not set'),
        ({"env": "sk-hunter2"}, "not the name of an environment variable"),
        ({"env": 3}, "must be a string"),
        ({"env": "A", "file": "b"}, "must be a string"),
        ({}, "must be a string"),
        ({"value": "hunter2"}, "must be a string"),
        ({"file": "missing"}, "the file missing: no such file"),
        ({"file": "."}, "is a directory"),
        ({"file": "loop"}, "symbolic links"),
        ({"file": "/dev/zero"}, "is not a regular file"),
        ({"file": "a\0b"}, "is not a path"),
        ({"file": "a\nb"}, r'the file "a\\nb"'),
        ({"file": ""}, "is not a path"),
        (3, "must be a string"),
        (["hunter2"], "must be a string"),
        (None, "must be a string"),
    ],
)
def test_a_wrong_secret_says_why(tmp_path: Path, value: object, why: str) -> None:
    """The error names the variable or the file, and nothing that may be the secret."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=why) as caught:
        read_secret(value, {"EMPTY": ""}, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
