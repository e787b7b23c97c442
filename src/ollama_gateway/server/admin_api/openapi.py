"""The admin API's description of itself, in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from ollama_gateway.control.shapes import Anything, Text
from ollama_gateway.server.admin_api import problems
from ollama_gateway.server.admin_api.operation import PREFIX, AdminCall, AdminReply, Operation

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_PROBLEM: Final = {"$ref": "#/components/responses/Problem"}
_ETAG: Final = {"description": "The state of the thing.", "schema": {"type": "string"}}


def described(operations: Sequence[Operation]) -> Operation:
    """Return the operation that describes operations, and itself."""

    async def serve(_call: AdminCall) -> AdminReply:
        return AdminReply(document)

    own = Operation(
        "GET", "/openapi.json", "viewer", "Describe this API in OpenAPI 3.1.", serve, Anything()
    )
    document = description([*operations, own])
    return own


def description(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of operations."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(f"{PREFIX}{one.template}", {})[one.method.lower()] = _operation(one)
    problem = {problems.MEDIA_TYPE: {"schema": problems.SHAPE.schema()}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ollama Gateway, admin API", "version": version("ollama-gateway")},
        "paths": paths,
        "security": [{"token": []}, {}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {"description": "Why it is refused.", "content": problem}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"Needs the role {one.role}.",
        "tags": [one.template.split("/")[1]],
        "parameters": _parameters(one),
        "responses": {str(_status(one)): _answer(one), "default": _PROBLEM},
    }
    if one.takes is not None:
        content = {_JSON: {"schema": one.takes.schema()}}
        found["requestBody"] = {"required": not one.is_body_optional, "content": content}
    return found


def _status(one: Operation) -> int:
    return 204 if one.answer is None else one.status


def _answer(one: Operation) -> dict[str, Any]:
    if one.answer is None:
        return {"description": "Done."}
    media, what = (_LINES, "Each line.") if one.is_streamed else (_JSON, "Done.")
    found: dict[str, Any] = {
        "description": what,
        "content": {media: {"schema": one.answer.schema()}},
    }
    return found | ({"headers": {"ETag": _ETAG}} if one.honours_etag else {})


def _parameters(one: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in one.template.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": Text().schema()} for name in names
    ]
    found += [
        {"name": name, "in": "query", "schema": shape.schema()} for name, shape in one.query.items()
    ]
    if one.honours_etag and one.method != "GET":
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    return found
