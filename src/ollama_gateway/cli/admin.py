"""How commands ask the running gateway: a GET of its admin listener, answered by a JSON object.

Whoever answers need not be a gateway. The rule: within `TIMEOUT` there is an `Answer` or
`NoAnswer`, whatever is sent, and no more than `LARGEST` of it is understood. What is in the object,
each command judges for itself.
"""

from __future__ import annotations

import json
import ssl
from functools import partial
from typing import Any, Final

import anyio
import attrs
import httpx

from ollama_gateway.settings import ServerSettings

ANSWER_SECONDS: Final = 5.0
"""Seconds for the admin listener to answer, from the connect to the last byte."""
MAX_ANSWER_BYTES: Final = 2**20
"""Bytes of an answer."""
REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens everywhere

# The listener is plain HTTP; httpx would load every root certificate, which takes 100 ms.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class NoAnswer(Exception):
    """Nobody answers there, or not as a gateway would."""


@attrs.frozen
class AdminAnswer:
    """What the admin listener said."""

    status: int
    """The HTTP status."""
    value: dict[str, Any]
    """The JSON object, of any shape."""


def ask(server: ServerSettings, path: str) -> AdminAnswer:
    """Ask the gateway of these settings; `path` is one that needs no further quoting.

    Raises:
        NoAnswer: no HTTP with a JSON object came in time.

    """
    try:
        status, body = anyio.run(partial(_get, server, path), backend="trio")
        value = json.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError):
        raise NoAnswer from None
    if len(body) > MAX_ANSWER_BYTES or not isinstance(value, dict):
        raise NoAnswer
    return AdminAnswer(status, value)


async def _get(server: ServerSettings, path: str) -> tuple[int, bytes]:
    body = bytearray()
    with anyio.fail_after(ANSWER_SECONDS):
        async with (
            httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS, verify=_NO_TLS) as client,
            client.stream("GET", _base(server) + path, headers=_headers(server)) as response,
        ):
            async for chunk in response.aiter_raw():  # raw: few bytes may decode to many
                # Read to the end in any case: trio complains of a generator that is left halfway.
                body += chunk if len(body) <= MAX_ANSWER_BYTES else b""
    return response.status_code, bytes(body)


def _base(server: ServerSettings) -> str:
    bind = server.admin_bind
    host, port = REACHABLE.get(bind.host, bind.host), bind.port
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _headers(server: ServerSettings) -> dict[str, str]:
    token = server.admin_token
    given = {"authorization": f"Bearer {token.reveal()}"} if token else {}
    return {"accept-encoding": "identity", **given}
