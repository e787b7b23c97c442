"""Who asks, and under which request id, where a parent passes requests of the admin API on.

The parent of several processes lets operators in, and tells the process that answers who asks. The
process believes that only over its own Unix socket, in a directory that no other user can enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from ollama_gateway.control.actor import ROLES, Actor
from ollama_gateway.errors import Unauthorized
from ollama_gateway.flow.ask import Ask
from ollama_gateway.wire.headers import Headers

_NAME: Final = b"x-gateway-actor"
_ROLE: Final = b"x-gateway-role"
_REQUEST: Final = b"x-gateway-request"


def passed_headers(actor: Actor, request_id: str) -> Headers:
    """Return the headers that tell a process who asks."""
    name = quote(actor.name, safe="").encode()
    return [(_NAME, name), (_ROLE, actor.role.encode()), (_REQUEST, request_id.encode())]


def passed_actor(ask: Ask) -> Actor:
    """Return who asks, and take on the parent's request id; raises Unauthorized."""
    given: Mapping[bytes, bytes] = dict(ask.headers)
    role = next((role for role in ROLES if role.encode() == given.get(_ROLE)), None)
    # a client has an address; the parent, over a Unix socket, has none
    if ask.client or role is None or _NAME not in given:
        raise Unauthorized("the parent did not say who asks")
    ask.request_id = given.get(_REQUEST, b"").decode("latin-1") or ask.request_id
    return Actor(unquote(given[_NAME].decode("latin-1")), role)
