"""Every route of the admin listener, asked with every kind of token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import attrs
import pytest
import trio.testing

from ollama_gateway.control.actor import ROLES
from ollama_gateway.keys.admin_tokens import new_token_text
from ollama_gateway.server.admin_api.operation import PREFIX
from ollama_gateway.server.reload_handlers import ReloadReport
from ollama_gateway.storage.data_files import LOCAL_TOKEN_FILE
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
SETTINGS_TOKEN = "operators-only-token"
OLD_READS = ("/metrics", "/status.json", "/models.json", "/explain/m1", "/limits/k", "/diff.json")
MAY = {"viewer": "viewer", "operator": "operator", "admin": "admin", "local": "admin"}
"""The role of each valid token."""


class NoReload:
    """A reloader whose settings never differ."""

    async def reload(self) -> ReloadReport:
        """Change nothing."""
        return ReloadReport([])

    async def difference(self) -> list[Mapping[str, object]]:
        """Find nothing."""
        return []


@attrs.frozen
class Guarded:
    """A gateway, and a token of each kind; None is no token."""

    scenario: Scenario
    tokens: Mapping[str, str | None]

    async def status(self, method: str, path: str, kind: str) -> int:
        """Return the status of a request with a kind of token."""
        self.scenario.gateway.parts.admin_checks.attempts._times.clear()  # type: ignore[union-attr]
        reply = await self.scenario.ask(
            path, method=method, key=self.tokens[kind], is_admin=True, body={}
        )
        return reply.status


@asynccontextmanager
async def guarded(**settings: str) -> AsyncIterator[Guarded]:
    """Open a gateway with tokens of all kinds."""
    async with open_scenario(settings=settings) as scenario:
        scenario.gateway.offer_reload(NoReload())
        store = scenario.store
        tokens: dict[str, str | None] = {role: store.create_token(role, role)[1] for role in ROLES}
        past = datetime.now(UTC) - timedelta(seconds=1)
        tokens["expired"] = store.create_token("expired", "admin", past)[1]
        tokens["revoked"] = store.create_token("revoked", "admin")[1]
        store.revoke_token("revoked")
        local = scenario.gateway.settings.storage.data_dir / LOCAL_TOKEN_FILE
        more = {"absent": None, "wrong": new_token_text(), "garbage": "x", "key": scenario.key}
        yield Guarded(scenario, {**tokens, **more, "local": local.read_text().strip()})


def needed(gateway: Scenario) -> list[tuple[str, str, str]]:
    """Return method, path and role of every route: those of the API from its own table."""
    operations = [
        (one.method, f"{PREFIX}{one.template.replace('{', '').replace('}', '')}", one.role)
        for one in gateway.gateway.admin.operations
    ]
    described = [("GET", f"{PREFIX}/openapi.json", "viewer")]
    reads = [("GET", path, "viewer") for path in (*OLD_READS, "/readyz")]
    return [*operations, *described, *reads, ("POST", "/reload", "operator")]


async def test_every_route_with_every_token(autojump_clock: Clock) -> None:
    """A token that is not valid is 401 on every route; a role that is too low is 403; no route
    is open to a reader without a token but the reads."""
    async with guarded() as gateway:
        wrong = []
        for method, path, role in needed(gateway.scenario):
            for kind in gateway.tokens:
                status = await gateway.status(method, path, kind)
                if kind in MAY:
                    is_let_in = ROLES.index(MAY[kind]) >= ROLES.index(role)
                    good = status not in {401, 403, 421, 429} if is_let_in else status == 403
                elif kind == "absent" and role == "viewer":
                    good = status not in {401, 403, 421, 429}
                else:
                    good = status == 401
                wrong += [] if good else [(method, path, role, kind, status)]

    assert wrong == []


async def test_with_the_token_of_the_settings_reads_need_one(autojump_clock: Clock) -> None:
    """With `server.admin_token` no route but /healthz is open, and that token may do all."""
    async with guarded(GATEWAY_SERVER_ADMIN_TOKEN=SETTINGS_TOKEN) as opened:
        gateway = attrs.evolve(opened, tokens={**opened.tokens, "settings": SETTINGS_TOKEN})
        for method, path, _ in needed(gateway.scenario):
            assert await gateway.status(method, path, "absent") == 401, path
            assert await gateway.status(method, path, "settings") not in {401, 403, 421}, path
            assert await gateway.status(method, path, "admin") not in {401, 403, 421}, path
        assert await gateway.status("GET", "/healthz", "absent") == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "evil.example", 421),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
    ],
)
async def test_no_page_of_another_site_uses_the_api(
    autojump_clock: Clock, header: str, value: str, status: int
) -> None:
    """Host and page are checked with a valid token too; no answer has a header of CORS."""
    async with guarded() as gateway:
        reply = await gateway.scenario.ask(
            f"{PREFIX}/keys",
            method="GET",
            key=gateway.tokens["admin"],
            headers={header: value},
            is_admin=True,
        )

    assert reply.status == status
    assert not any(name.startswith("access-control") for name in reply.headers)


async def test_a_revocation_counts_within_a_second(autojump_clock: Clock) -> None:
    """A token that works is refused a second after it was revoked, and a new one works at once."""
    async with guarded() as gateway:
        path = f"{PREFIX}/admin-tokens"
        assert await gateway.status("GET", path, "admin") == 200
        gateway.scenario.store.revoke_token("admin")
        await trio.sleep(1)
        assert await gateway.status("GET", path, "admin") == 401
        tokens = {"new": gateway.scenario.store.create_token("admin", "admin")[1]}
        assert await attrs.evolve(gateway, tokens=tokens).status("GET", path, "new") == 200


async def test_the_life_of_a_token_over_http(autojump_clock: Clock) -> None:
    """A token is made once, listed without its text, used, and revoked."""
    async with guarded() as gateway:
        ask, path, key = gateway.scenario.ask, f"{PREFIX}/admin-tokens", gateway.tokens["local"]
        body = {"name": "ops", "role": "operator", "expires_at": "2999-01-01T00:00:00Z"}
        made = await ask(path, body, key=key, is_admin=True)
        again = await ask(path, body, key=key, is_admin=True)
        wrong = await ask(path, {**body, "name": "local"}, key=key, is_admin=True)
        past = await ask(
            path, {**body, "expires_at": "2001-01-01T00:00:00Z"}, key=key, is_admin=True
        )
        listed = await ask(path, method="GET", key=key, is_admin=True)
        used = await ask("/reload", key=made.document["token"], is_admin=True)
        gone = await ask(f"{path}/ops", b"", method="DELETE", key=key, is_admin=True)
        none = await ask(f"{path}/nothing", b"", method="DELETE", key=key, is_admin=True)

    statuses = [one.status for one in (made, again, wrong, past, listed, used, gone, none)]
    assert statuses == [201, 409, 422, 422, 200, 200, 200, 404]
    assert gone.document["status"] == "revoked"
    assert made.document["token"].encode() not in listed.body + gone.body
    assert "ops" in [one["name"] for one in listed.document["items"]]
