"""Write the reference of the admin API from its operations: `python -m tests.docs.admin_api`.

The reference is the end of the page; the prose before it is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import trio

from ollama_gateway.server.admin_api.openapi import description
from ollama_gateway.server.admin_api.operation import Operation
from tests.docs.blocks import ROOT
from tests.support.scenario import open_scenario

PAGE: Final = ROOT / "docs" / "operate" / "admin-api.md"
MARK: Final = "<!-- made by `python -m tests.docs.admin_api`; do not edit below -->\n"
LARGEST: Final = 2**53 - 1


def page(operations: list[Operation]) -> str:
    """Return the page: its prose as it is, and the reference of operations."""
    prose = PAGE.read_text().partition(MARK)[0]
    return prose + MARK + reference(description(operations))


def reference(document: Mapping[str, Any]) -> str:
    """Return the reference that an OpenAPI document makes."""
    described = [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    rows = [
        f"| `{method} {path}` | {_role(operation)} | {operation['summary']} |\n"
        for path, method, operation in described
    ]
    table = "\n| operation | role | |\n|---|---|---|\n" + "".join(rows)
    return table + "".join(_section(*one) for one in described)


def _role(operation: Mapping[str, Any]) -> str:
    return str(operation["description"]).rstrip(".").rpartition(" ")[2]


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    lines = [f"\n### {method} {path}\n", f"\n{operation['summary']} {operation['description']}\n"]
    fields = [
        (f"`{one['name']}` ({one['in']})", one["schema"])
        for one in operation["parameters"]
        if one["in"] != "path"
    ]
    if "requestBody" in operation:
        [content] = operation["requestBody"]["content"].values()
        fields += [(f"`{name}`", schema) for name, schema in _fields(content["schema"])]
    if fields:
        lines.append("\n| given | |\n|---|---|\n")
        lines += [f"| {name} | {_in_words(schema)} |\n" for name, schema in fields]
    [(status, answer), *_] = operation["responses"].items()
    lines.append(f"\nAnswer: {status}{_answer(answer)}.\n")
    return "".join(lines)


def _answer(answer: Mapping[str, Any]) -> str:
    if "content" not in answer:
        return ", without content"
    [(media, content)] = answer["content"].items()
    names = ", ".join(f"`{name}`" for name, _ in _fields(content["schema"]))
    kind = ", JSON lines" if media == "application/x-ndjson" else ""
    return kind + (f" with {names}" if names else "")


def _fields(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the fields of an object by their paths; `[]` stands for each item of an array."""
    if schema.get("type") == "array":
        yield from _fields(schema["items"], f"{before}[]")
        return
    for name, field in schema.get("properties", {}).items():
        path = f"{before}.{name}" if before else name
        inner = list(_fields(field, path))
        yield from inner or [(path, field)]


def _in_words(schema: Mapping[str, Any]) -> str:
    about = next(
        (one["description"] for one in schema.get("anyOf", ()) if "description" in one), ""
    )
    words = [_kind(schema), schema.get("description", about)]
    return ". ".join(word.rstrip(".") for word in words if word)


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"array of {_kind(schema['items'])}"
    if "maximum" in schema:
        most = f" to {schema['maximum']}" if schema["maximum"] < LARGEST else ""
        return f"{kind} from {schema['minimum']}{most}"
    if schema.get("format") == "date-time":
        return "time (RFC 3339)"
    return kind


async def operations() -> list[Operation]:
    """Return the operations of a gateway."""
    async with open_scenario() as scenario:
        return list(scenario.gateway.admin.operations)


if __name__ == "__main__":
    PAGE.write_text(page(trio.run(operations)))
