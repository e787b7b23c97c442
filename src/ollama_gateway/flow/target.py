"""The one backend that a request names itself, by a header or in its path.

Naming one needs the right `manage`, whatever the request is: who has it knows the backends, and to
everybody else a name that exists and one that does not are the same 403.
"""

from __future__ import annotations

from ollama_gateway.backends.backends import Backend, Backends
from ollama_gateway.errors import BadRequest, Forbidden
from ollama_gateway.flow.ask import Ask
from ollama_gateway.keys.key import Principal


def backend_override(principal: Principal, ask: Ask, backends: Backends) -> Backend | None:
    """The backend that is named; None where none is. Raises Forbidden, BadRequest."""
    if not ask.backend_overrides:
        return None
    if not principal.may_call("manage"):
        raise Forbidden(reason="endpoint_not_allowed")
    if len(ask.backend_overrides) > 1:
        raise _unclear("name one backend, once", backends)
    found = backends.named(ask.backend_overrides[0])
    if found is None:
        raise _unclear("no such backend", backends)
    return found


def target(principal: Principal, ask: Ask, backends: Backends) -> Backend:
    """The backend that is named, or the only one there is. Raises Forbidden, BadRequest."""
    found = backend_override(principal, ask, backends)
    if found is not None:
        return found
    if len(backends.all) == 1:
        return backends.all[0]
    raise _unclear("name a backend in the header X-Gateway-Backend", backends)


def _unclear(what: str, backends: Backends) -> BadRequest:
    names = ", ".join(backend.name for backend in backends.all)
    return BadRequest(f"{what}; there are {names}", reason="no_such_backend")
