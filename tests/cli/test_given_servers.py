"""The servers that `init` is given, as people write them."""

from __future__ import annotations

import pytest

from ollama_gateway.cli.given_servers import is_remote, read_servers


@pytest.mark.parametrize(
    ("written", "name", "url", "lacked_port"),
    [
        ("10.0.0.5", "ollama-1", "http://10.0.0.5:11434", True),
        ("gpu", "ollama-1", "http://gpu:11434", True),
        ("gpu:", "ollama-1", "http://gpu:11434", True),
        ("http://gpu", "ollama-1", "http://gpu:11434", True),
        ("http://gpu/ollama", "ollama-1", "http://gpu:11434/ollama", True),
        ("[::1]", "ollama-1", "http://[::1]:11434", True),
        ("gpu:80", "ollama-1", "http://gpu:80", False),
        ("https://gpu", "ollama-1", "https://gpu", False),
        ("big=gpu", "big", "http://gpu:11434", True),
        ("big=https://gpu:1/a=b", "big", "https://gpu:1/a=b", False),
        ("http://gpu:1/a=b", "ollama-1", "http://gpu:1/a=b", False),
    ],
)
def test_ways_to_write_a_server(written: str, name: str, url: str, *, lacked_port: bool) -> None:
    """Scheme, port and name may be missing; only `http` gets Ollama's port."""
    servers, problems = read_servers([written])

    assert problems == []
    assert [(s.name, s.url, s.lacked_port) for s in servers] == [(name, url, lacked_port)]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "ftp://gpu",
            "ftp://gpu: Ollama speaks http:// (or https:// behind a proxy), nothing else",
        ),
        ("gpu/v1", "gpu/v1: leave out /v1: the gateway adds the paths of the API itself"),
        ("gpu/v1/", "leave out /v1/"),
        ("http://gpu:1/api/chat", "leave out /api/chat"),
        ("http://gpu:1/ollama/v1", "leave out /ollama/v1"),
        ("a b=gpu", "the name before `=` must be"),
        ("=gpu", "the name before `=` must be"),
        ("gpu:x", "is not a URL: the host or the port is wrong"),
        ("[::1", "is not a URL: the host or the port is wrong"),
    ],
)
def test_wrong_servers_are_named(written: str, says: str) -> None:
    """Each problem names its argument and says what to do; the others are read all the same."""
    servers, problems = read_servers(["other", written])

    assert [server.name for server in servers] == ["ollama-1"]
    assert len(problems) == 1
    assert problems[0].startswith(written)
    assert says in problems[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpu", "http://gpu:11434/"),
        ("GPU", "gpu"),
        ("[::1]", "[0:0::1]:11434"),
        ("a=gpu", "b=gpu"),
    ],
)
def test_a_server_given_twice(first: str, second: str) -> None:
    """The same server in two spellings is a problem, not two backends."""
    servers, problems = read_servers([first, second])

    assert len(servers) == 1
    assert [problem.partition(": ")[0] for problem in problems] == [second]
    assert "is the same server as" in problems[0]


def test_two_servers_of_one_name() -> None:
    """A name is given once, and numbered names keep clear of given ones."""
    servers, problems = read_servers(["x", "ollama-1=a", "b=c", "b=d", "y"])

    assert [server.name for server in servers] == ["ollama-2", "ollama-1", "b", "ollama-3"]
    assert problems == ["b=d: another server is already named b"]


def test_a_password_is_not_repeated() -> None:
    """A URL with a password is refused without showing it."""
    _, problems = read_servers(["ftp://user:hunter2@gpu"])

    assert len(problems) == 1
    assert "hunter2" not in problems[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("http://10.0.0.5:1", True),
        ("http://gpu:1", True),
    ],
)
def test_which_servers_are_on_another_machine(url: str, *, expected: bool) -> None:
    """Only loopback addresses and `localhost` are this machine."""
    assert is_remote(url) is expected
