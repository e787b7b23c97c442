"""The beginnings of a large body's fields: what a small body holds, in bounded steps."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.beginnings import MAX_DENSE, MAX_TEXT, MAX_TEXTS, beginnings
from ollama_gateway.wire.body import LongText, parse, utf8_size
from ollama_gateway.wire.identity import FIELDS, conversation_of, readable
from ollama_gateway.wire.large import SCAN_STEP, Large, Steps
from ollama_gateway.wire.prompt_head import block_hashes, head_of
from ollama_gateway.wire.structure import LONG_STRING, Cutting
from tests.wire.scanning import large, run


def whole_steps(body: bytes, *, long: int = LONG_STRING) -> Large:
    """Return the body as a large one, whatever its size."""
    return large(body, step=SCAN_STEP, long=long, cutting=Cutting(), chunk=len(body))


def count(steps: Steps[Any]) -> int:
    """Return the number of steps."""
    return sum(1 for _ in steps)


def begun(document: dict[str, Any], *, long: int = LONG_STRING) -> dict[str, Any]:
    """Return the beginnings of all fields that name a conversation."""
    found = run(beginnings(whole_steps(json.dumps(document).encode(), long=long), FIELDS))
    assert isinstance(found, dict)
    return found


texts = st.text(st.characters() | st.sampled_from('"\\é\ud83d😀\n'), max_size=60)
contents = texts | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=3
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("m1"),
        "system": contents,
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user", "assistant"]), "content": contents}
            ),
            max_size=5,
        ),
        "tools": st.lists(st.fixed_dictionaries({"name": texts, "description": texts}), max_size=3),
        "prompt": texts,
        "context": st.lists(st.integers(), max_size=90),
        "prompt_cache_key": texts,
        "metadata": st.dictionaries(st.sampled_from(["user_id", "x"]), texts),
    },
)


@given(document=documents, long=st.sampled_from([8, LONG_STRING]), is_ascii=st.booleans())
def test_a_body_that_grows_large_keeps_its_conversation(
    document: dict[str, Any], *, long: int, is_ascii: bool
) -> None:
    """The beginnings of a large body have the same identities as the fields of a small one."""
    text = json.dumps(document, ensure_ascii=is_ascii).encode("utf-8", "replace")
    fields = parse(text)
    found = run(readable(whole_steps(text, long=long), {}))

    assert conversation_of("k", "m", [], found) == conversation_of("k", "m", [], fields)
    assert block_hashes(head_of(found)) == block_hashes(head_of(fields))
    assert run(readable(text, fields)) is fields


def test_of_a_long_text_the_beginning_and_the_size_are_read() -> None:
    """The text ends at its limit, also in the middle of escapes and of letters."""
    for letter in ("a", "é", "\\", "\u0001", "😀"):
        text = letter * (MAX_TEXT + 1)
        system = begun({"system": text})["system"]
        assert isinstance(system, LongText)
        assert system == text[:MAX_TEXT]
        assert system.size == utf8_size(text)


def test_an_array_that_is_cut_has_its_whole_elements() -> None:
    """Elements behind the limit are missing, and so is one that the limit divides."""
    said = [{"role": "user", "content": "x" * 2000}] * 200
    found = begun({"messages": said, "context": list(range(10**4, 10**5))})

    assert found["messages"] == said[: len(found["messages"])]
    assert 100 < len(found["messages"]) < 200
    assert found["context"] == list(range(10**4, 10**4 + len(found["context"])))
    assert MAX_DENSE // 10 < len(found["context"]) < MAX_DENSE // 6


def test_pictures_do_not_hide_the_messages_behind_them() -> None:
    """Long strings take no room, up to a number of them."""
    pictures = {"role": "system", "content": "", "images": ["a" * 10**6] * 3}
    asked = {"role": "user", "content": "hi"}
    assert begun({"messages": [pictures, asked]})["messages"][1] == asked

    many = {"role": "system", "content": "", "images": ["a" * 5000] * 2 * MAX_TEXTS}
    assert begun({"messages": [asked, many]})["messages"] == [asked]


def test_what_takes_long_to_parse_is_cut() -> None:
    """Of a field with very many values little is read, and an object that is cut is left out."""
    document = {"tools": [[]] * 50_000, "metadata": {"x": ["y" * 100] * 5000}, "input": "hi"}
    found = begun(document)

    assert set(found) == {"tools", "input"}
    assert found["tools"] == [[]] * (MAX_DENSE // 4)


def test_work_is_done_in_steps() -> None:
    """Each long string and each field is a step of its own, so no step reads much."""
    document = {"messages": [{"role": "user", "content": "a" * 10**5}] * 10, "system": "b"}
    body = whole_steps(json.dumps(document).encode())

    assert count(beginnings(body, FIELDS)) == 10 + 2
