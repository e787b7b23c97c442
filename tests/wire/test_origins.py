from __future__ import annotations

import pytest

from ollama_gateway.wire.origins import Origins, pattern_of

LISTED = ("https://chat.example.com", "https://*.team.example", "http://localhost:*", "app://*")


def origins(*patterns: str) -> Origins:
    """Return what these patterns allow."""
    return Origins(tuple(map(pattern_of, patterns)))


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.com",
        "https://a.team.example",
        "https://a.b.team.example",
        "http://localhost",
        "http://localhost:3000",
        "app://obsidian.md",
        "app://",
        "APP://Obsidian.MD",
    ],
)
def test_what_is_allowed(origin: str) -> None:
    """Patterns allow the origin itself, labels before a name, any port, or any host of a scheme."""
    assert origins(*LISTED).allow(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "*",
        "https://*",
        "http://chat.example.com",
        "https://chat.example.com:8443",
        "https://chat.example.com.evil.test",
        "https://chat.example.com/",
        "https://chat.example.com@evil.test",
        "https://team.example",
        "https://evilteam.example",
        "https://evil.test#.team.example",
        "https://evil.test/.team.example",
        "https://a..team.example",
        "http://localhost.evil.test",
        "http://localhost:3000.evil.test",
        "http://localhost:",
        "app://a b",
        "app://a, https://chat.example.com",
        "https://chat.example.com https://evil.test",
        "https://chatXexample.com",
    ],
)
def test_what_is_not_allowed(origin: str) -> None:
    """An origin that only resembles an allowed one is refused."""
    assert not origins(*LISTED).allow(origin)


def test_nothing_is_allowed_by_default() -> None:
    """Without a pattern no origin is allowed."""
    assert not any(map(Origins().allow, ["", "null", "http://localhost", "https://a"]))


@pytest.mark.parametrize("origin", ["null", "https://a.test", "chrome-extension://abc"])
def test_a_star_is_everyone(origin: str) -> None:
    """`*` also allows pages without an origin of their own."""
    assert origins("*").allow(origin)


@pytest.mark.parametrize(
    ("patterns", "are"),
    [
        (("*",), True),
        (("https://*",), True),
        (("http://*",), True),
        (("app://*", "https://*.example.com"), False),
        ((), False),
    ],
)
def test_who_is_everyone(patterns: tuple[str, ...], *, are: bool) -> None:
    """Patterns that any web site matches are recognized."""
    assert origins(*patterns).are_everyone is are


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("https://A.Example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_a_pattern_is_kept_as_browsers_write_it(text: str, pattern: str) -> None:
    """A pattern is stored in lower case and without the default port."""
    assert pattern_of(text) == pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "example.com",
        "https://",
        "https://a/",
        "https://a/path",
        "https://a*.example",
        "https://a.*",
        "https://*example.com",
        "*://a",
        "https://u:p@a",
        "https://a:99999999",
        "https://a b",
        "**",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    """A pattern that could not match, or would match too much, is refused with a reason."""
    with pytest.raises(ValueError, match="is not an origin like"):
        pattern_of(text)
