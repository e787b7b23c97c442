"""Guard the admin listener: by a token if one is set, otherwise by the `Host` of the request.

The owner of a domain can point its name to 127.0.0.1 (DNS rebinding). A web page under that name
then has the same origin as an admin listener there, so its scripts may read all answers; only
`Host` gives it away. So without a token, the name must be one that no stranger can own: a loopback
name, the address of `server.admin_bind`, or one of `server.admin_hosts`.

Every route is guarded by default. Two are guarded less, for probes: they know no token and ask by
service names.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from ollama_gateway.control.actor import Actor
from ollama_gateway.errors import Forbidden, Misdirected, Unauthorized
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.api import METHODS, AdminAPI, PassOn
from ollama_gateway.server.admin_api.operation import PREFIX, Operation
from ollama_gateway.server.admin_api.passed_on import passed_actor
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
SETTINGS: Final = Actor("settings", "admin")
"""Has the token of the settings."""
READER: Final = Actor("-", "viewer")
"""Has no token, where none is needed to read."""


@attrs.frozen
class AdminAccess:
    """The token, or the names by which the admin listener may be asked without one."""

    token: str | None = attrs.field(default=None, repr=False)
    names: frozenset[str] = frozenset()
    """Names that are accepted besides those of loopback, as `name_of` returns them."""
    is_behind_parent: bool = False
    """Whether a parent lets operators in, and says who asks."""

    @classmethod
    def of(cls, token: str | None, hosts: Iterable[str]) -> AdminAccess:
        """Build it from a token and from names or addresses."""
        return cls(token, frozenset(name for host in hosts if (name := name_of(host))))

    def routes(
        self,
        handlers: Mapping[str, Handler],
        under: Mapping[str, Handler],
        reloader: Reloader | None = None,
        operations: Sequence[Operation] = (),
        pass_on: PassOn | None = None,
    ) -> Routes:
        """Return guarded routes: GET and HEAD for `handlers`, GET for paths below `under`.

        With a reloader there are those of reloads, too, and with operations the admin API.
        With `pass_on`, another process answers what is none of these operations.
        """
        commands: dict[str, Handler] = {}
        if reloader is not None:
            made = ReloadHandlers(reloader)
            handlers = {**handlers, "/diff.json": made.difference}
            commands = {"/reload": partial(_from_no_page, made.reload)}
        table = {path: self._route(path, handlers[path], "GET", "HEAD") for path in handlers}
        table |= {path: self._route(path, handler, "POST") for path, handler in commands.items()}
        below = {path: self._route(path, handler, "GET") for path, handler in under.items()}
        has_api = operations or pass_on is not None
        return Routes(table, below, {PREFIX: self._api(operations, pass_on)} if has_api else {})

    def _api(self, operations: Sequence[Operation], pass_on: PassOn | None) -> dict[str, Route]:
        endpoint = Endpoint(PREFIX, "admin")
        if pass_on is None:
            api = AdminAPI.of(operations, self.actor)
        else:
            api = AdminAPI(operations, self.actor, pass_on)
        return {method: Route(endpoint, partial(api.serve, method)) for method in METHODS}

    def _route(self, path: str, handler: Handler, *methods: str) -> dict[str, Route]:
        guarded = handler if path == OPEN_PATH else partial(self._let_in, path, handler)
        return dict.fromkeys(methods, Route(Endpoint(path, "admin"), guarded))

    async def _let_in(self, path: str, handler: Handler, ask: Ask) -> None:
        if self.token is not None:
            _check(ask, self.token)
        elif path != ANY_HOST_PATH and not self._knows(ask.headers):
            raise Misdirected
        await handler(ask)

    async def actor(self, ask: Ask) -> Actor:
        """Return who asks at the admin API; raises Unauthorized, Forbidden, Misdirected."""
        if self.is_behind_parent:
            return passed_actor(ask)
        if any(name == b"sec-fetch-site" and value not in OWN_PAGES for name, value in ask.headers):
            raise Forbidden("no web page may do this", reason=Reason.FOREIGN_ORIGIN)
        if not self._knows(ask.headers):
            raise Misdirected
        if self.token is None:
            return READER
        _check(ask, self.token)
        return SETTINGS

    def may_see_names(self, ask: Ask) -> bool:
        """Whether an asker who was let in may be told the names of backends and models."""
        return self.token is not None or self._knows(ask.headers)

    def _knows(self, headers: Headers) -> bool:
        hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
        name = name_in(hosts[0]) if len(hosts) == 1 else None
        return name is not None and (name in self.names or is_loopback(name))


async def _from_no_page(handler: Handler, ask: Ask) -> None:
    """Serve a command, unless a web page sends it: a page may POST to any address."""
    if any(name.lower() in FROM_PAGES for name, _ in ask.headers):
        raise Forbidden("no web page may do this", reason=Reason.FOREIGN_ORIGIN)
    await handler(ask)


def _check(ask: Ask, token: str) -> None:
    given = (ask.credential or "").encode("utf-8", "replace")
    if not hmac.compare_digest(given, token.encode()):
        raise Unauthorized("invalid admin token")
