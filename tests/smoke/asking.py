"""Ask a gateway: by plain HTTP, and with the libraries of its clients."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from email.message import Message
from typing import Any, Final

import anthropic
import attrs
import ollama
import openai

from tests.smoke.fleet import Fleet
from tests.support.patience import PATIENCE

MODEL: Final = "shared:1"
SAY_HI: Final[Any] = [{"role": "user", "content": "hi"}]
CHAT: Final[dict[str, Any]] = {"model": MODEL, "messages": SAY_HI}


@attrs.frozen
class Answer:
    """A whole answer, of any status."""

    status: int
    headers: Message
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        """The id of the request."""
        return str(self.headers["X-Request-Id"])


def ask(port: int, path: str, key: str = "", body: object = None) -> Answer:
    """Send a GET, or a POST with a JSON body."""
    url = f"http://127.0.0.1:{port}{path}"
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def rest_of(client: socket.socket, end: bytes = b"0\r\n\r\n") -> bytes:
    """Read an answer to this end, or to that of its connection."""
    received = b""
    try:
        while not received.endswith(end) and (data := client.recv(65536)):
            received += data
    except ConnectionResetError:
        pass
    return received


def ollama_client(fleet: Fleet, key: str | None = None) -> ollama.Client:
    """Return Ollama's client."""
    return ollama.Client(fleet.url, headers={"Authorization": f"Bearer {key or fleet.key}"})


def openai_client(fleet: Fleet, key: str | None = None) -> openai.OpenAI:
    """Return OpenAI's client, without its own retries."""
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key=key or fleet.key, max_retries=0)


def anthropic_client(fleet: Fleet, key: str | None = None) -> anthropic.Anthropic:
    """Return Anthropic's client, without its own retries."""
    return anthropic.Anthropic(base_url=fleet.url, api_key=key or fleet.key, max_retries=0)
