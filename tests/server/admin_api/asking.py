"""Ask the admin API of a scenario, and hold each answer to the shape that it is described by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ollama_gateway.server.admin_api.operation import PREFIX, Operation
from ollama_gateway.server.admin_api.problems import SHAPE
from ollama_gateway.simulator import Model
from tests.server.managing import publishing
from tests.support.scenario import Reply, Scenario, open_scenario

TOKEN = "operators-only"
PROBLEM = "application/problem+json"


@asynccontextmanager
async def open_admin(
    models: tuple[Model, ...] = (Model("m1:latest"),), **settings: str
) -> AsyncIterator[Scenario]:
    """Open a scenario whose admin listener has a token, and whose backends can pull `new:1`."""
    token = {"GATEWAY_SERVER_ADMIN_TOKEN": TOKEN}
    simulators = {name: publishing(*models) for name in "ab"}
    async with open_scenario(simulators, settings={**token, **settings}) as scenario:
        yield scenario


def operation_for(scenario: Scenario, method: str, path: str) -> Operation:
    """Return the operation that serves a path."""
    found = [one for one in scenario.gateway.admin.operations if one.match(path) is not None]
    exact = [one for one in found if "{" not in one.template] or found
    return next(one for one in exact if one.method == method)


async def asked(
    scenario: Scenario, method: str, path: str, body: object = None, **more: Any
) -> Reply:
    """Ask an operation; `path` is below the prefix, with its query."""
    more.setdefault("key", TOKEN)
    sent = b"" if body is None else body
    reply = await scenario.ask(f"{PREFIX}{path}", sent, method=method, is_admin=True, **more)
    if not reply.is_complete:
        return reply
    if reply.status >= 400:
        assert reply.headers["content-type"] == PROBLEM
        assert list(SHAPE.problems(reply.document)) == []
        return reply
    operation = operation_for(scenario, method, path.partition("?")[0])
    assert operation.answer is not None
    documents = reply.lines if operation.is_streamed else [reply.document]
    assert [fault for one in documents for fault in operation.answer.problems(one)] == []
    return reply


async def got(scenario: Scenario, path: str, **more: Any) -> Any:
    """Return what a GET that succeeds answers."""
    reply = await asked(scenario, "GET", path, **more)
    assert reply.status == 200, reply.body
    return reply.document


def problem_of(reply: Reply) -> tuple[int, str]:
    """Return status and detail of an answer with a problem."""
    return reply.status, reply.document["detail"]
