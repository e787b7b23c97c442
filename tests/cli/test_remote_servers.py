"""Commands that ask a server elsewhere which is no gateway, or a hostile one."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from ollama_gateway.cli.admin import NoAnswer, ask_lines
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.client import AdminClient
from tests.keys.admin_listener import AdminListener, admin_listener, http
from tests.keys.test_usage import SENT
from tests.support.certificates import server_context
from tests.support.commands import run
from tests.support.patience import PATIENCE

TOKEN = "hush-0123456789abcdef"
KEY: dict[str, Any] = {
    "id": "kkkkkkkk",
    "name": "ci",
    "status": "active",
    "models": ["*"],
    "endpoints": ["read"],
    "limits": dict.fromkeys(
        ("requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month")
    ),
    "user_header": None,
    "aliases": {},
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}
LIST = "/admin/v1/keys?limit=1000"


@pytest.fixture
def listener() -> Iterator[AdminListener]:
    """A server on this machine, as another one would be asked."""
    with admin_listener() as listener:
        yield listener


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def refused(*arguments: str) -> str:
    """Run a command that ends with 1 and one line, which it returns."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.isprintable()
    assert TOKEN not in line
    return line


ODD: list[Any] = [
    None,
    [],
    {"items": None, "next": None},
    {"items": [None], "next": None},
    {"items": [KEY]},
    {"items": [KEY], "next": 5},
    {"items": [{**KEY, "name": 5}], "next": None},
    {"items": [{**KEY, "limits": {"tokens_per_day": "\x1b[2J"}}], "next": None},
    {"items": [{name: value for name, value in KEY.items() if name != "models"}], "next": None},
    {"items": [{**KEY, "aliases": {"a": [{}]}}], "next": None},
]


@pytest.mark.parametrize(
    "sent", [*SENT, *(http(json.dumps(one).encode()) for one in ODD)], ids=lambda sent: sent[-40:]
)
def test_what_no_gateway_sends_is_not_shown(
    listener: AdminListener, token: Path, sent: bytes
) -> None:
    """Whatever comes in place of a list of keys, there is one line, without it and the token."""
    listener.answers[LIST] = sent
    server = f"http://127.0.0.1:{listener.port}"
    line = refused("keys", "list", "--server", server, "--token-file", str(token))

    assert line.startswith(f"gatewayctl keys: no gateway answers on {server}")
    assert listener.asked == [(LIST, f"Bearer {TOKEN}")]  # no redirect was followed


def test_fields_of_a_newer_gateway_are_left_out(listener: AdminListener) -> None:
    """A document may have more fields than this version knows."""
    listener.says(LIST, {"items": [{**KEY, "mood": "\x1b[2J"}], "next": None})
    result = run("keys", "list", "--json", "--server", f"http://127.0.0.1:{listener.port}")

    assert json.loads(result.stdout) == [KEY]


@pytest.mark.parametrize(
    ("status", "document", "code", "text"),
    [
        (401, {"detail": "invalid admin token"}, 1, "refuses: invalid admin token"),
        (403, {"detail": "this needs the role admin"}, 1, "refuses: this needs the role admin"),
        (404, {"detail": "no \x1b[2Jkey"}, 1, '"no \\u001b[2Jkey"'),
        (409, {"detail": "the name is taken"}, 1, "gatewayctl keys: the name is taken"),
        (422, {"detail": "is no name"}, 2, "gatewayctl keys: is no name"),
        (
            422,
            {"detail": "x", "problems": [{"where": "/name\x00", "detail": "is odd"}, 5]},
            2,
            'gatewayctl keys: "/name\\u0000": is odd',
        ),
        (503, {"detail": "the store is away"}, 1, "gatewayctl keys: the store is away"),
        (500, {"detail": "x" * 10_000}, 1, "gatewayctl keys: " + "x" * 1000),
        (500, {"detail": 5}, 1, "no gateway answers on"),
    ],
)
def test_problem_details_become_one_line(
    listener: AdminListener, status: int, document: Any, code: int, text: str
) -> None:
    """An error of the gateway is one printable line, and its exit code that of a local one."""
    listener.says("/admin/v1/keys", document, status)
    server = f"http://127.0.0.1:{listener.port}"
    result = run("keys", "create", "ci", "--server", server)

    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith(text) or text in line
    assert len(line) < 1100


def test_a_list_without_an_end_ends(listener: AdminListener) -> None:
    """A cursor that comes again ends the command."""
    listener.says(LIST, {"items": [KEY], "next": "x"})
    listener.says(f"{LIST}&cursor=x", {"items": [KEY], "next": "x"})
    line = refused("keys", "list", "--server", f"http://127.0.0.1:{listener.port}")

    assert line.endswith(": its list has no end")


def test_a_key_is_no_part_of_a_url(listener: AdminListener) -> None:
    """The text of a key in place of its id is refused here: URLs stand in logs."""
    server = f"http://127.0.0.1:{listener.port}"
    refused("keys", "show", f"ogw_abcdefgh_{'s' * 49}", "--server", server)

    assert listener.asked == []


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answer one connection in a thread; return the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    answer(connection)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.close()
            thread.join(PATIENCE)


def test_a_server_that_drips_is_left_in_time() -> None:
    """A byte now and then does not prolong the time for the whole answer."""

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 90:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)  # longer than the whole deadline in sum, far shorter each

    with serving(drip) as port:
        client = AdminClient(AdminAddress("127.0.0.1", port, "here"))
        with pytest.raises(NoAnswer):
            client.get("/status", seconds=0.3)


def test_lines_that_break_off_are_no_end() -> None:
    """Documents are yielded as they come; a line without its end is an error."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}\n{"b"')

    with serving(answer) as port:
        lines = ask_lines(AdminAddress("127.0.0.1", port, "here"), "/x")
        assert next(lines).value == {"a": 1}
        with pytest.raises(NoAnswer, match="broke off"):
            next(lines)


def tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Return what answers a TLS connection with a list of one key."""
    body = json.dumps({"items": [KEY], "next": None}).encode()

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(http(body))

    return answer


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    """An authority of its own, and its certificate as a file."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made, tmp_path / "ca.pem"


def test_the_own_authority_is_trusted(authority: tuple[trustme.CA, Path], token: Path) -> None:
    """With `--ca-file` a gateway's certificate of an own authority is good."""
    made, file = authority
    with serving(tls(server_context(made))) as port:
        server = ("--server", f"https://127.0.0.1:{port}", "--token-file", str(token))
        result = run("keys", "list", "--json", *server, "--ca-file", str(file))

    assert json.loads(result.stdout) == [KEY]


def test_an_unknown_authority_is_not_trusted(authority: tuple[trustme.CA, Path]) -> None:
    """Without `--ca-file` the certificate is refused, before any token is sent."""
    made, _ = authority
    with serving(tls(server_context(made))) as port:
        line = refused("keys", "list", "--server", f"https://127.0.0.1:{port}")

    assert line.endswith(": its certificate is not trusted (--ca-file names its authority)")


def test_a_certificate_for_another_name_is_refused(authority: tuple[trustme.CA, Path]) -> None:
    """The certificate must be for the host of the URL."""
    made, file = authority
    with serving(tls(server_context(made))) as port:
        server = ("--server", f"https://localhost:{port}", "--ca-file", str(file))
        line = refused("keys", "list", *server)

    assert line.endswith(": its certificate is for another name")


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file or directory"), ("x", "holds no certificate")]
)
def test_a_bad_file_of_authorities_is_named(
    tmp_path: Path, content: str | None, words: str
) -> None:
    """The line names the file."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    line = refused("keys", "list", "--server", "https://127.0.0.1:1", "--ca-file", str(file))

    assert line.endswith(f": {file}: {words}")


def test_a_host_that_is_not_known_is_named() -> None:
    """A name that no resolver knows (RFC 6761, 6.4) is one line."""
    line = refused("keys", "list", "--server", "http://gateway.invalid")

    assert line == (
        "gatewayctl keys: no gateway answers on http://gateway.invalid: its name is not known here"
    )
