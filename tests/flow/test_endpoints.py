"""The table of endpoints: every line is routed, and no other code compares paths."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ollama_gateway
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import (
    COUNTING,
    DESCRIPTIONS,
    INFERENCE,
    LISTINGS,
    MANAGEMENT,
    Endpoint,
    dialect_of,
)
from ollama_gateway.server.routes import gateway_routes

SOURCE = Path(ollama_gateway.__file__).parent
ENDPOINTS = (*INFERENCE, *COUNTING, *DESCRIPTIONS, *MANAGEMENT, *LISTINGS)


async def handler(_: Ask) -> None:
    """Serve nothing."""


ROUTES = gateway_routes(
    handler, handler, handler, handler, {endpoint.path: handler for endpoint in LISTINGS}
)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")
def test_every_endpoint_is_routed(endpoint: Endpoint) -> None:
    """A line of the table is found by each of its methods, with its parameter."""
    value = endpoint.parameter and "value"
    path = f"{endpoint.path}/{value}" if value else endpoint.path
    for method in endpoint.methods:
        route = ROUTES.find(method, path)
        assert (route.endpoint, route.parameter) == (endpoint, value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/responses/none", "openai-responses"),
        ("/v1/none", "openai"),
        ("/api/none", "ollama"),
        ("*", "ollama"),
    ],
)
def test_every_path_has_a_dialect(path: str, name: str) -> None:
    """Errors on unknown paths have a dialect too."""
    assert dialect_of(path).name == name


def test_only_the_table_compares_paths() -> None:
    """The code asks an endpoint's fields in place of its path."""
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for room in ("flow", "server", "limits")
        for path in (SOURCE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        for value in ast.walk(node)
        if isinstance(value, ast.Constant) and str(value.value).startswith(("/api", "/v1"))
    ]

    assert found == []
