"""The admin API answers what its description of itself says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import attrs
import pytest

from tests.server.admin_asking import TOKEN, Operator
from tests.support.scenario import open_scenario

pytestmark = pytest.mark.virtual_time

PREFIX: Final = "/admin/v1"


@attrs.frozen
class Example:
    """A request that an operation serves; `aaaaaaaa` is an active key, `bbbbbbbb` a revoked one."""

    path: str
    """Below the prefix."""
    body: object = b""


IMPORT: Final = {"keys": [{"name": "imported", "key": "sk-made-elsewhere-0123456789abcdef"}]}
EXAMPLES: Final[Mapping[str, Example]] = {
    "get_openapi.json": Example("/openapi.json"),
    "get_keys": Example("/keys?limit=1"),
    "post_keys": Example("/keys", {"name": "new", "id": "cccccccc", "aliases": {"a": ["m1"]}}),
    "get_keys_id": Example("/keys/aaaaaaaa"),
    "patch_keys_id": Example("/keys/aaaaaaaa", {"limits": {"tokens_per_day": 7}}),
    "post_keys_id_rotate": Example("/keys/aaaaaaaa/rotate", {"grace_s": 1.5}),
    "post_keys_id_revoke": Example("/keys/aaaaaaaa/revoke"),
    "delete_keys_id": Example("/keys/bbbbbbbb"),
    "post_keys_update": Example("/keys/update", {"match": "n*", "changes": {"models": ["m1"]}}),
    "post_keys_import": Example("/keys/import", IMPORT),
    "get_limits": Example("/limits"),
    "get_limits_key_id": Example("/limits/aaaaaaaa"),
    "post_limits_key_id_reset": Example("/limits/aaaaaaaa/reset", {"reason": "a mistake"}),
    "get_requests": Example("/requests"),
}
"""By the name of the operation; a new operation needs one, or a room of its own below."""
ELSEWHERE: Final = ("audit", "backends", "config", "models", "requests", "status", "usage")
"""The first words of paths whose answers tests/server/admin_api and test_request_operations hold to
their shapes."""


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    """An operator with the token of the settings, and two keys."""
    async with open_scenario(settings={"GATEWAY_SERVER_ADMIN_TOKEN": TOKEN}) as opened:
        found = Operator(opened)
        for key_id in ("aaaaaaaa", "bbbbbbbb"):
            await found.ask("POST", "/keys", {"name": f"n-{key_id}", "id": key_id})
        await found.ask("POST", "/keys/bbbbbbbb/revoke")
        yield found


async def test_every_operation_answers_as_described(operator: Operator) -> None:
    """Status, media type and shape of each good answer are those of the OpenAPI document."""
    operations = operator.scenario.gateway.admin.operations
    here = [one for one in operations if one.template.split("/")[1] not in ELSEWHERE]
    assert {one.name for one in here} <= set(EXAMPLES)
    description = (await operator.ask("GET", "/openapi.json")).document
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            example = EXAMPLES.get(operation["operationId"])
            if example is None:
                continue
            reply = await operator.ask(method.upper(), example.path, example.body)
            expected = operation["responses"].get(str(reply.status))
            assert expected is not None, (method, path, reply.status, reply.body)
            if "content" not in expected:
                assert reply.body == b""
                continue
            [(media, content)] = expected["content"].items()
            assert reply.headers["content-type"].startswith(media)
            documents = reply.lines if media == "application/x-ndjson" else [reply.document]
            for document in documents:
                assert list(mismatches(content["schema"], document)) == [], (method, path)
            assert ("headers" in expected) == ("etag" in reply.headers), (method, path)


KINDS: Final = {
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def mismatches(schema: Mapping[str, Any], value: Any, where: str = "") -> list[str]:
    """Return what of a value is not as a JSON Schema says, for the keywords that we use."""
    if "anyOf" in schema:
        return min((mismatches(one, value, where) for one in schema["anyOf"]), key=len)
    kind = schema.get("type")
    if kind is not None and type(value) not in KINDS[kind]:
        return [f"{where}: not of type {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: not in {schema['enum']}"]
    if kind == "array":
        found = [mismatches(schema["items"], v, f"{where}/{n}") for n, v in enumerate(value)]
        return [one for several in found for one in several]
    return object_mismatches(schema, value, where) if kind == "object" else []


def object_mismatches(schema: Mapping[str, Any], value: Any, where: str) -> list[str]:
    """Return what of an object is not as a JSON Schema says."""
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    needed = schema.get("required", [])
    found = [f"{where}/{name}: missing" for name in needed if name not in value]
    for name, item in value.items():
        allowed = properties.get(name, others)
        if allowed is False:
            found.append(f"{where}/{name}: not described")
        elif isinstance(allowed, dict):
            found += mismatches(allowed, item, f"{where}/{name}")
    return found


def test_the_check_finds_what_is_wrong() -> None:
    """The check of answers names missing, unknown and wrong fields."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }

    assert mismatches(schema, {"a": 1, "b": None}) == []
    assert len(mismatches(schema, {"a": True, "b": 1, "c": 2})) == 3
    assert mismatches(schema, {"a": 1}) == ["/b: missing"]
