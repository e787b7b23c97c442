"""A chat full of pictures passes in less than three times its size; one too large is not read."""

from __future__ import annotations

import base64
import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_gateway.keys.key import KeyLimits
from tests.campaign.audit_log import MEBIBYTE
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.campaign.test_blob import peak
from tests.smoke.fleet import Fleet, fleet
from tests.support.patience import PATIENCE

MODEL: Final = "m:1"
WORDS: Final = "what is it? 😀"
"""One emoji: as text in memory the whole body would have four bytes a character."""
BUFFERS: Final = 8
"""MiB that the system may take from a client before they are read."""
BUDGET: Final = KeyLimits(tokens_per_day=10**9)


@pytest.fixture
def started(tmp_path: Path, sizes: Sizes) -> Iterator[Fleet]:
    """A gateway of its own: what a process once had of memory, its peak tells for ever."""
    simulators = {"a": ("--model", MODEL, "--tool", "look", "--token-delay", "0ms")}
    limit = f"{sizes.body + 1}MiB"
    with fleet(tmp_path, simulators, GATEWAY_SERVER_MAX_BODY=limit) as opened:
        yield opened


def native(picture: str) -> dict[str, Any]:
    """A chat of Ollama's own."""
    return {"messages": [{"role": "user", "content": WORDS, "images": [picture] * 4}]}


def openai(picture: str) -> dict[str, Any]:
    """OpenAI's, whose stream is asked for its usage: the body is written anew."""
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    parts = [{"type": "text", "text": WORDS}, *[url] * 4]
    return {"messages": [{"role": "user", "content": parts}], "stream": True}


def ask(of: Fleet, key: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Send one body; status and answer."""
    headers = {"Authorization": f"Bearer {key}"}
    with closing(http.client.HTTPConnection("127.0.0.1", of.port, PATIENCE)) as connection:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("limits", [KeyLimits(), BUDGET], ids=["free", "budget"])
@pytest.mark.parametrize(
    ("path", "speech"), [("/api/chat", native), ("/v1/chat/completions", openai)]
)
def test_a_large_body_takes_less_than_three_times_its_size(
    started: Fleet,
    sizes: Sizes,
    note: Note,
    path: str,
    speech: Callable[[str], dict[str, Any]],
    limits: KeyLimits,
) -> None:
    """Between the client and the backend a body is in memory twice at most, budget or not."""
    _, key = started.create_key("reader", limits)
    picture = base64.b64encode(b"\x89PNG" * (sizes.body * MEBIBYTE * 3 // 64)).decode()
    body, small = (
        json.dumps({"model": MODEL, **speech(data)}, ensure_ascii=False).encode()
        for data in (picture, "iVBORw0KGgo=")
    )
    assert ask(started, key, path, small)[0] == 200
    before = peak(started.gateways[0])
    status, answer = ask(started, key, path, body)
    grown = peak(started.gateways[0]) - before

    note(f"{len(body) / MEBIBYTE:.0f} MiB grew it by {grown / len(body):.2f} times as much")
    assert status == 200
    assert b"Hello" in answer
    assert grown < 3 * len(body)


@pytest.mark.parametrize("is_announced", [True, False], ids=["length", "chunked"])
def test_a_body_over_the_limit_is_not_read_to_its_end(
    started: Fleet, sizes: Sizes, note: Note, *, is_announced: bool
) -> None:
    """It is refused by its length before a byte is read, or else as soon as it is too long."""
    whole = 20 * sizes.body
    with socket.create_connection(("127.0.0.1", started.port), PATIENCE) as client:
        framing = (
            f"Content-Length: {whole * MEBIBYTE}" if is_announced else "Transfer-Encoding: chunked"
        )
        head = f"POST /api/chat HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {started.key}\r\n"
        client.sendall(f"{head}{framing}\r\n\r\n".encode())
        sent = push(client, whole, is_chunked=not is_announced)
        answer = client.recv(65536)

    note(f"of {whole} MiB {sent / MEBIBYTE:.1f} MiB could be sent")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent <= (BUFFERS + (0 if is_announced else sizes.body + 1)) * MEBIBYTE


def push(client: socket.socket, mebibytes: int, *, is_chunked: bool) -> int:
    """Send as much as is taken before an answer comes; how many bytes that was."""
    piece = b" " * 65536  # anything but JSON is refused sooner
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    sent = 0
    while sent < mebibytes * MEBIBYTE and not has_answer(client):
        try:
            client.sendall(framed)
        except OSError:
            break
        sent += len(piece)
    return sent


def has_answer(client: socket.socket) -> bool:
    """Whether something has come."""
    return bool(select.select([client], [], [], 0)[0])
