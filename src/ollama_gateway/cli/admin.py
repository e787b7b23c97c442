"""Ask the running gateway: a GET of its admin listener, answered by a JSON object.

The server that answers need not be a gateway. Whatever it sends, within the given seconds there is
an `AdminAnswer` or `NoAnswer`, and a body of more than `MAX_ANSWER_BYTES` is no answer. Each
command checks the content of the object itself.
"""

from __future__ import annotations

import json
import ssl
from functools import partial
from typing import Any, Final

import anyio
import attrs
import httpx

from ollama_gateway.cli.reaching import url_of
from ollama_gateway.settings import ServerSettings

ANSWER_SECONDS: Final = 5.0
"""Time for the admin listener to answer by default, from the connect to the last byte."""
MAX_ANSWER_BYTES: Final = 2**20
"""The largest body of an answer."""

# The listener is plain HTTP; httpx would load every root certificate, which takes 100 ms.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class NoAnswer(Exception):
    """Nothing answers at the address, or the answer is not one of a gateway."""


@attrs.frozen
class AdminAnswer:
    """An answer of the admin listener."""

    status: int
    """The HTTP status."""
    value: dict[str, Any]
    """The JSON object, unchecked."""


def ask(server: ServerSettings, path: str, *, seconds: float = ANSWER_SECONDS) -> AdminAnswer:
    """Ask the gateway of these settings; `path` must already be quoted.

    Raises:
        NoAnswer: no HTTP response with a JSON object came in time.

    """
    try:
        status, body = anyio.run(partial(_get, server, path, seconds), backend="trio")
        value = json.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError):
        raise NoAnswer from None
    if len(body) > MAX_ANSWER_BYTES or not isinstance(value, dict):
        raise NoAnswer
    return AdminAnswer(status, value)


async def _get(server: ServerSettings, path: str, seconds: float) -> tuple[int, bytes]:
    body = bytearray()
    with anyio.fail_after(seconds):
        async with (
            httpx.AsyncClient(trust_env=False, timeout=seconds, verify=_NO_TLS) as client,
            client.stream(
                "GET", url_of(server.admin_bind) + path, headers=_headers(server)
            ) as response,
        ):
            async for chunk in response.aiter_raw():  # raw: few bytes may decode to many
                # Always read to the end: trio warns of a generator that is not exhausted.
                body += chunk if len(body) <= MAX_ANSWER_BYTES else b""
    return response.status_code, bytes(body)


def _headers(server: ServerSettings) -> dict[str, str]:
    token = server.admin_token
    given = {"authorization": f"Bearer {token.reveal()}"} if token else {}
    return {"accept-encoding": "identity", **given}
