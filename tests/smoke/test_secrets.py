"""No output or file of the gateway contains a key that stands in a path."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.smoke.fleet import PATIENCE, Fleet, fleet

WRONG = "ogw_aaaaaaaa_" + "S3cretOfSomebodyElse" * 2 + "abcdefgh1"
"""A text in the form of a key that does not exist."""


def say(port: int, data: bytes) -> bytes:
    """Send bytes and return the whole answer."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(data)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


def ask(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """Send one request on its own connection."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    return say(port, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def paths(key: str) -> list[tuple[str, str]]:
    """Return paths with a key, valid and invalid."""
    encoded = quote(key, safe="").replace("_", "%5F")
    return [
        ("HEAD", f"/k/{key}/"),
        ("GET", f"/k/{key}"),
        ("GET", f"/k/{key}/"),
        ("GET", f"/k/{key}/api/tags"),
        ("GET", f"/k/{key}/api/tags/"),
        ("GET", f"/k/{key}/none/such"),
        ("GET", f"/k/{key}/v1/none"),
        ("DELETE", f"/k/{key}/api/chat"),
        ("GET", f"//k/{key}/api/tags"),
        ("GET", f"/k//{key}/api/tags"),
        ("GET", f"/k/{key}//api/tags"),
        ("GET", f"/K/{key}/api/tags"),
        ("GET", f"/k/{encoded}/api/tags"),
        ("GET", f"/%6b/{key}/api/tags"),
        ("GET", f"/k/{key}%2Fapi/tags"),
        ("GET", f"/k/{key}/../api/tags"),
        ("GET", f"/k/{key}?key={key}"),
        ("GET", f"/{key}"),
        ("OPTIONS", f"/k/{key}/api/chat"),
        ("BREW", f"/k/{key}/api/chat"),
        ("GET", f"/k/{key}/" + "x" * 9000),
        ("GET", f"http://h/k/{key}/api/tags"),
        ("GET", f"/k/{key}/\x01"),
        ("GET", f"/k/{key}/a b"),
    ]


@pytest.fixture(scope="module")
def debugging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a gateway with the log level `debug`."""
    with fleet(tmp_path_factory.mktemp("data"), GATEWAY_LOG_LEVEL="debug") as started:
        yield started


def test_a_key_in_a_path_is_nowhere(debugging: Fleet, tmp_path: Path) -> None:
    """No answer, log, metric, record or file contains the key, valid or not, in any spelling."""
    key, port = debugging.key, debugging.port
    answers = [ask(port, method, path) for k in (key, WRONG) for method, path in paths(k)]
    chat = json.dumps({"model": "shared:1", "messages": [{"role": "user", "content": "hi"}]})
    for k in (key, WRONG):
        answers.append(ask(port, "POST", f"/k/{k}/api/chat", chat.encode()))
        answers.append(ask(port, "POST", f"/k/{k}/v1/chat/completions", b"{"))
        answers.append(say(port, f"GET /k/{k}/ HTTP/9.9\r\n\r\n".encode()))
        answers.append(
            say(port, f"GET /k/{k}/ HTTP/1.1\r\nhost: h\r\nx: {'y' * 70000}\r\n\r\n".encode())
        )
        answers.append(say(port, f"GET /k/{k}/ HTTP/1.1\r\nbad header {k}\r\n\r\n".encode()))
    statuses = [answer.split(b" ", 2)[1] for answer in answers]
    assert {b"200", b"400", b"401", b"404", b"405", b"431"} <= set(statuses)
    debugging.gateway.wait_for('"exchange"')
    admin = debugging.gateways[0].admin_port
    answers += [ask(admin, "GET", page) for page in ("/metrics", "/status.json")]
    listed = debugging.ctl("audit", "list", "--json").stdout
    assert '"shared:1"' in listed
    debugging.gateway.stop()

    data = Path(debugging.environment["GATEWAY_STORAGE_DATA_DIR"])
    stored = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    said = "\n".join(debugging.gateway.lines).encode()
    seen = b"\n".join([*answers, said, listed.encode(), stored])
    for k in (key, WRONG):
        secret = k.rpartition("_")[2].encode()
        assert b"refused" in said
        assert secret not in seen
        assert base64.b64encode(secret)[:-4] not in seen
