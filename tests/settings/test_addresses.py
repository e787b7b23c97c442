from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.settings import ListenAddress, addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:11435", ListenAddress("127.0.0.1", 11435)),
        ("0.0.0.0:0", ListenAddress("0.0.0.0", 0)),  # noqa: S104 - nothing listens here
        ("localhost:65535", ListenAddress("localhost", 65535)),
        ("[::1]:80", ListenAddress("::1", 80)),
    ],
)
def test_an_address_reads_and_shows_the_same(text: str, expected: ListenAddress) -> None:
    """An address is host and port, and is shown as it was written."""
    assert addresses.address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "::1:80",
        "[::1]",
        "[x]:80",
        "[]:80",
        "a b:80",
        "http://a:80",
        "host:80\n",
        "-a:80",
        "host:٣",
        80,
        None,
        ["a:80"],
    ],
)
def test_what_is_no_address_is_refused(value: object) -> None:
    """An address needs host and port, and brackets around IPv6."""
    with pytest.raises(ValueError, match="is not a"):
        addresses.address(value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens here
        ("::", False),
        ("10.0.0.1", False),
        ("gpu", False),
    ],
)
def test_loopback(host: str, *, expected: bool) -> None:
    """Loopback addresses and `localhost` are loopback, other names are not."""
    assert ListenAddress(host, 1).is_loopback is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://10.0.0.5:11434", "http://10.0.0.5:11434"),
        ("http://10.0.0.5:11434/", "http://10.0.0.5:11434"),
        ("https://gpu.example/ollama/", "https://gpu.example/ollama"),
        ("HTTP://GPU_1:80", "http://gpu_1:80"),
        ("http://[fd00::1]:1", "http://[fd00::1]:1"),
        ("http://gpu:", "http://gpu"),
        ("http://gpu/a%40b", "http://gpu/a%40b"),
    ],
)
def test_a_backend_url_is_made_plain(text: str, expected: str) -> None:
    """Scheme and host become lower case, a path stays, trailing slashes go."""
    assert addresses.url(text) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "must be a URL"),
        (3, "must be a URL"),
        ("10.0.0.5:11434", "http://"),
        ("gpu:11434", "http://"),
        ("http:gpu", "http://"),
        ("unix:///run/ollama.sock", "http://"),
        ("file:///etc/passwd", "http://"),
        ("ftp://gpu", "http://"),
        ("http://user:hunter2@gpu", "credentials"),
        ("http://hunter2@gpu", "credentials"),
        ("http://gpu?key=hunter2", "query"),
        ("http://gpu?", "query"),
        ("http://gpu/#hunter2", "fragment"),
        ("http://", "has no host"),
        ("http:///path", "has no host"),
        ("http://:80", "has no host"),
        ("http://gpu:0", "port 0"),
        ("http://gpu:65536", "port"),
        ("http://gpu:x", "port"),
        ("http://[::1", "host or the port"),
        ("http://[nonsense]", "host"),
        ("http://-gpu-", "neither a name"),
        ("http://g pu", "character"),
        ("http://gpu\n", "character"),
        ("http://gpu\x00", "character"),
        ("http://gpü", "character"),
        ("http://gpu\\x", "character"),
    ],
)
def test_a_wrong_backend_url_says_why(value: object, why: str) -> None:
    """The error says which mistake it is and does not repeat the URL."""
    with pytest.raises(ValueError, match=why) as caught:
        addresses.url(value)
    assert "hunter2" not in str(caught.value)


@given(st.text() | st.text("htp:/@[]?#.%1a", max_size=20).map(lambda tail: "http://" + tail))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    """Any text is a ValueError, or a URL that reads back unchanged."""
    try:
        found = addresses.url(text)
    except ValueError:
        return
    assert addresses.url(found) == found


@pytest.mark.parametrize("text", ["a", "gpu-1", "A.b_c-9", "x" * 64])
def test_a_good_name(text: str) -> None:
    """A name has letters, digits, dots, underscores and hyphens."""
    assert addresses.name(text) == text


@pytest.mark.parametrize("value", ["", "a b", "gpu\n", "é", "a/b", "x" * 65, 1, None])
def test_a_bad_name(value: object) -> None:
    """A name that needs quoting in logs and metrics is refused."""
    with pytest.raises(ValueError, match="1 to 64 of the characters"):
        addresses.name(value)


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` becomes the home directory."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert addresses.path("~/data") == Path("/home/ada/data")


@pytest.mark.parametrize("value", ["", "a\0b", 3, None, "~no-such-user-here/x"])
def test_a_bad_path(value: object) -> None:
    """A path that the system would refuse is a ValueError."""
    with pytest.raises(ValueError, match=r"is not a path|no such home"):
        addresses.path(value)


def test_an_empty_path_is_none_where_that_is_allowed() -> None:
    """An empty string is None."""
    assert addresses.path_or_none("") is None
