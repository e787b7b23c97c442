"""Guard the admin listener: who asks, and whether its role includes what the route needs.

Reads need no token where the listener is on loopback and the settings have no token; changes
always do. A read without a token must come by a `Host` that is known, and so must every request to
the admin API.

The owner of a domain can point its name to 127.0.0.1 (DNS rebinding). A web page under that name
then has the same origin as an admin listener there, so its scripts may read all answers; only
`Host` gives it away. So without a token, the name must be one that no stranger can own: a loopback
name, the address of `server.admin_bind`, or one of `server.admin_hosts`.

Every route is guarded by default. Two are guarded less, for probes: they know no token and ask by
service names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from ollama_gateway.control.actor import READER, Actor, Role
from ollama_gateway.errors import Forbidden, Misdirected, Unauthorized
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.api import METHODS, AdminAPI
from ollama_gateway.server.admin_api.operation import PREFIX, Operation
from ollama_gateway.server.admin_checks import AdminChecks, actor_in, require
from ollama_gateway.server.reload_handlers import Reloader, ReloadHandlers
from ollama_gateway.server.routes import Handler, Route, Routes
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.hosts import is_loopback, name_in, name_of

OPEN_PATH: Final = "/healthz"
"""Needs neither a token nor a known name."""
ANY_HOST_PATH: Final = "/readyz"
"""Needs the token if one is set, but no known name."""
FROM_PAGES: Final = {b"origin", b"sec-fetch-site"}
"""Headers that browsers send with each POST (Fetch, 3.2; Fetch Metadata), and no other client."""
OWN_PAGES: Final = {b"same-origin", b"none"}
"""Values of `Sec-Fetch-Site` that do not tell of another site's page (Fetch Metadata, 2.1)."""


class UnknownHost(Misdirected):
    """421: the admin API was asked by another name, which no token makes up for."""

    default_message = "unknown host name: add it to server.admin_hosts"


@attrs.frozen
class AdminAccess:
    """What the settings say of the admin listener, and what checks its tokens."""

    token: str | None = attrs.field(default=None, repr=False)
    names: frozenset[str] = frozenset()
    """Names that are accepted besides those of loopback, as `name_of` returns them."""
    checks: AdminChecks | None = attrs.field(factory=AdminChecks)
    """None in a process that only its parent can ask: the parent has checked, and names the actor.
    """
    is_on_loopback: bool = True
    """Whether only this machine can reach the listener."""

    @classmethod
    def of(
        cls,
        token: str | None,
        hosts: Iterable[str],
        checks: AdminChecks | None,
        *,
        is_on_loopback: bool,
    ) -> AdminAccess:
        """Build it from a token and from names or addresses."""
        names = frozenset(name for host in hosts if (name := name_of(host)))
        return cls(token, names, checks, is_on_loopback)

    def routes(
        self,
        handlers: Mapping[str, Handler],
        under: Mapping[str, Handler],
        reloader: Reloader | None = None,
        operations: Sequence[Operation] = (),
    ) -> Routes:
        """Return guarded routes: GET and HEAD for `handlers`, GET for paths below `under`.

        With a reloader there are those of reloads, too, and with operations the admin API.
        """
        commands: dict[str, Handler] = {}
        if reloader is not None:
            made = ReloadHandlers(reloader)
            handlers = {**handlers, "/diff.json": made.difference}
            commands = {"/reload": made.reload}
        table = {path: self._route(path, handlers[path], "GET", "HEAD") for path in handlers}
        table |= {path: self._route(path, command, "POST") for path, command in commands.items()}
        below = {path: self._route(path, handler, "GET") for path, handler in under.items()}
        return Routes(table, below, {PREFIX: self._api(operations)} if operations else {})

    def _api(self, operations: Sequence[Operation]) -> dict[str, Route]:
        api, endpoint = AdminAPI.of(operations, self.actor), Endpoint(PREFIX, "admin")
        return {method: Route(endpoint, partial(api.serve, method)) for method in METHODS}

    def _route(self, path: str, handler: Handler, *methods: str) -> dict[str, Route]:
        role: Role = "operator" if "POST" in methods else "viewer"
        guarded = handler if path == OPEN_PATH else partial(self._let_in, path, role, handler)
        return dict.fromkeys(methods, Route(Endpoint(path, "admin"), guarded))

    async def _let_in(self, path: str, role: Role, handler: Handler, ask: Ask) -> None:
        if self.token is None and path != ANY_HOST_PATH and not self._knows(ask.headers):
            raise Misdirected
        if role != "viewer" and any(name.lower() in FROM_PAGES for name, _ in ask.headers):
            raise Forbidden("no web page may do this", reason=Reason.FOREIGN_ORIGIN)
        require(await self._who_asks(ask), role)
        await handler(ask)

    async def actor(self, ask: Ask) -> Actor:
        """Return who asks at the admin API.

        Raises Unauthorized, Forbidden, Misdirected, LimitReached, Unavailable.
        """
        _refuse_other_sites(ask.headers)
        if not self._knows(ask.headers):
            raise UnknownHost
        return await self._who_asks(ask)

    async def _who_asks(self, ask: Ask) -> Actor:
        if self.checks is None:
            return actor_in(ask.headers)
        if ask.credential is not None:
            _refuse_other_sites(ask.headers)  # they could use up the attempts of this address
            return await self.checks.actor_of(ask.credential, ask.client, self.token)
        if self.needs_token:
            raise Unauthorized("invalid admin token")
        return READER

    @property
    def needs_token(self) -> bool:
        """Whether reads need a token too."""
        return self.token is not None or not self.is_on_loopback

    def may_see_names(self, ask: Ask) -> bool:
        """Whether an asker who was let in may be told the names of backends and models."""
        return self.needs_token or self._knows(ask.headers)

    def _knows(self, headers: Headers) -> bool:
        hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
        name = name_in(hosts[0]) if len(hosts) == 1 else None
        return name is not None and (name in self.names or is_loopback(name))


def _refuse_other_sites(headers: Headers) -> None:
    """Raise Forbidden for what a page of another site sends."""
    hosts = [value.lower() for name, value in headers if name.lower() == b"host"]
    for name, value in headers:
        lowered = name.lower()
        is_foreign = (lowered == b"sec-fetch-site" and value.lower() not in OWN_PAGES) or (
            lowered == b"origin" and value.lower().partition(b"://")[2] not in hosts
        )
        if is_foreign:
            raise Forbidden("no web page may do this", reason=Reason.FOREIGN_ORIGIN)
