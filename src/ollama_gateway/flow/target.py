"""The backend override: a request may name its backend, by a header or in its path.

An override needs the right `manage` on every endpoint. Keys with that right may know the backends;
all others get the same 403 whether the name exists or not.
"""

from __future__ import annotations

from typing import Final

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.errors import BadRequest, Forbidden
from ollama_gateway.flow.ask import Ask
from ollama_gateway.keys.key import Principal
from ollama_gateway.reasons import Reason

HOW: Final = (
    "name a backend in the header X-Gateway-Backend, or as OLLAMA_HOST=http://GATEWAY/k/KEY/b/NAME"
)


def backend_override(principal: Principal, ask: Ask, backends: Backends) -> Backend | None:
    """Return the backend that the request names, if any; raises Forbidden, BadRequest."""
    if not ask.backend_overrides:
        return None
    if not principal.may_call("manage"):
        raise Forbidden(reason=Reason.ENDPOINT_NOT_ALLOWED)
    if len(ask.backend_overrides) > 1:
        raise _unclear("name exactly one backend", backends)
    found = backends.named(ask.backend_overrides[0])
    if found is None:
        raise _unclear("no such backend", backends)
    return found


def target(principal: Principal, ask: Ask, backends: Backends) -> Backend:
    """Return the backend that the request names, or the only one; raises Forbidden, BadRequest."""
    found = backend_override(principal, ask, backends)
    if found is not None:
        return found
    if ask.endpoint.is_account:
        raise Forbidden(f"this asks for the account of one backend: {HOW}")
    if len(backends.all) == 1:
        return backends.all[0]
    raise _unclear(HOW, backends)


def _unclear(problem: str, backends: Backends) -> BadRequest:
    names = ", ".join(backend.name for backend in backends.all)
    return BadRequest(f"{problem}; there are {names}", reason=Reason.NO_SUCH_BACKEND)
