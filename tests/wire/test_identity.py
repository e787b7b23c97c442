"""What names a conversation: headers, fields that a team may share, and the head of the prompt."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.headers import UPSTREAM, Headers
from ollama_gateway.wire.identity import (
    BACKGROUND,
    EXCERPT,
    HEADERS,
    MAX_NAME,
    ConversationIdentity,
    conversation_of,
)
from ollama_gateway.wire.prompt_head import BLOCK, MAX_BLOCKS, block_hashes, head_of
from tests.wire.conversations import ASKED, SAID, TURNS

KEY, MODEL = "k1", "m1:latest"
LONG = "You are careful. " * 600
TOOL = {"type": "function", "function": {"name": "read", "description": "Read a file."}}


def conversation(
    body: dict[str, Any], headers: Headers | None = None, *, key: str = KEY, model: str = MODEL
) -> ConversationIdentity:
    """Return the conversation of a body, read as a request's is."""
    found = conversation_of(key, model, headers or [], parse(json.dumps(body).encode()))
    assert found is not None
    return found


@pytest.mark.parametrize("name", TURNS)
def test_a_conversation_is_known_by_its_head(name: str) -> None:
    """The next turn has the same identity and head, and another conversation has others."""
    first, next_turn, other = map(conversation, TURNS[name])

    assert first.source == "content"
    assert (next_turn.id, next_turn.head) == (first.id, first.head)
    assert other.id != first.id
    assert other.head != first.head


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_names_the_conversation(name: bytes) -> None:
    """Its value alone decides, with the key and the model; the head is still told."""
    one = conversation({"messages": [ASKED]}, [(name, b"s1")])
    other_head = conversation({"messages": [{"role": "user", "content": "x"}]}, [(name, b"s1")])
    other_name = conversation({"messages": [ASKED]}, [(name, b"s2")])

    assert one.source == "header"
    assert other_head.id == one.id
    assert other_head.head != one.head
    assert other_name.id != one.id


@pytest.mark.parametrize("value", [b"", b"None", b"null", b"{{CHAT_ID}}"])
def test_a_header_that_names_nothing_is_ignored(value: bytes) -> None:
    """Front ends send an empty value, or their placeholder itself, in every request."""
    headers = [(b"x-openwebui-chat-id", value), (BACKGROUND, value)]
    found = conversation({"messages": [ASKED]}, headers)

    assert (found.source, found.is_background) == ("content", False)
    assert conversation({"messages": [ASKED]}, [(BACKGROUND, b"title_generation")]).is_background


@pytest.mark.parametrize(
    "field", [{"prompt_cache_key": "team"}, {"metadata": {"user_id": "team"}}], ids=str
)
def test_a_hint_counts_together_with_the_first_message(field: dict[str, Any]) -> None:
    """A whole team may send the same one, so it does not name a conversation alone."""
    one = conversation({**field, "instructions": "x", "input": "a"})
    changed_system = conversation({**field, "instructions": "y", "input": "a"})
    other = conversation({**field, "instructions": "x", "input": "b"})

    assert one.source == "hint"
    assert changed_system.id == one.id
    assert other.id != one.id


def test_a_header_counts_before_a_hint() -> None:
    """The first of the three kinds that is there names the conversation."""
    body = {"prompt_cache_key": "team", "messages": [ASKED]}
    assert conversation(body, [(b"session_id", b"s")]).source == "header"
    assert conversation(body, [(b"x-forwarded-for", b"192.0.2.7")]).source == "hint"


def test_long_system_texts_and_tools_have_a_coarse_identity() -> None:
    """From 8 KiB on, conversations that begin with the same text and tools share it."""
    system = {"role": "system", "content": LONG}
    one = conversation({"messages": [system, ASKED], "tools": [TOOL]})
    other = conversation({"messages": [system, SAID, {"role": "user", "content": "b"}]})
    same = conversation({"messages": [system, {**ASKED, "content": "b"}], "tools": [TOOL]})
    many = conversation({"input": "a", "tools": [{"name": "x", "description": LONG}]})

    assert one.coarse is not None
    assert same.coarse == one.coarse != other.coarse
    assert same.id != one.id
    assert many.coarse is not None
    assert conversation({"messages": [ASKED], "tools": [TOOL]}).coarse is None


def test_what_a_response_continues() -> None:
    """The identity has the id of the previous answer where that is a short text."""
    assert conversation({"input": "a", "previous_response_id": "r1"}).previous_response_id == "r1"
    for value in ("", "r" * (MAX_NAME + 1), 7, None, ["r1"]):
        body = {"input": "a", "previous_response_id": value}
        assert conversation(body).previous_response_id is None


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"prompt": ""}, {"messages": "", "x": 1}])
def test_a_request_without_any_text_is_no_conversation(body: dict[str, Any]) -> None:
    """A request that only loads a model has no identity."""
    assert conversation_of(KEY, MODEL, [], body) is None


def test_an_excerpt_and_the_size_stand_for_a_long_text() -> None:
    """Texts that differ in their beginning or their size differ; the rest does not count."""
    texts = ["a" * 2 * EXCERPT, "a" * (2 * EXCERPT - 1) + "b", "a" * 2 * EXCERPT + "b"]
    first, end, longer = (conversation({"prompt": "p", "system": text}).id for text in texts)

    assert first == end != longer


def test_the_spelling_of_a_body_does_not_matter() -> None:
    """Whitespace, escapes and the order of fields change nothing."""
    plain = '{"model":"m1","messages":[{"role":"user","content":"häé"}]}'.encode()
    other = b'{ "messages" : [ {"content": "h\\u00e4\\u00e9",\n"role":"user"} ], "model":"m1" }'

    assert conversation_of(KEY, MODEL, [], parse(plain)) == conversation_of(
        KEY, MODEL, [], parse(other)
    )


def test_no_header_that_is_only_read_here_goes_upstream() -> None:
    """Ollama reads none of them, and sends all that it gets of a cloud request to its cloud."""
    assert UPSTREAM.isdisjoint({*HEADERS, BACKGROUND})


def test_blocks_show_where_two_heads_part() -> None:
    """Each block of 1,024 characters has a hash; the first 64 are enough."""
    text = "".join(f"{number:>8}" for number in range(BLOCK))
    changed = text[: 3 * BLOCK] + "!" + text[3 * BLOCK + 1 :]
    one, other = (
        block_hashes(head_of({"system": said, "messages": [ASKED]})) for said in (text, changed)
    )

    assert len(one) == len(text) // BLOCK + 1
    pairs = enumerate(zip(one, other, strict=True))
    assert [place for place, (before, after) in pairs if before != after] == [3]
    many = [{"type": "text", "text": text}] * 100
    assert len(block_hashes(head_of({"system": many}))) == MAX_BLOCKS


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "function", "name", "user_id", "images"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
bodies = st.dictionaries(
    st.sampled_from(
        [
            *("system", "instructions", "messages", "input", "prompt", "context", "tools"),
            *("metadata", "prompt_cache_key", "previous_response_id"),
        ]
    ),
    values,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "developer"]), "content": values}
    ),
    max_size=3,
)
heads = st.lists(st.tuples(st.sampled_from([*HEADERS, BACKGROUND]), st.binary(max_size=9)))
names = st.text("k12 ", min_size=1, max_size=4)


def hashes(found: ConversationIdentity | None) -> set[bytes]:
    """Return all hashes of a conversation."""
    if found is None:
        return set()
    return {value for value in attrs.astuple(found) if isinstance(value, bytes)}


@given(bodies, messages, heads, names, names, names, names)
def test_no_identity_of_one_key_is_one_of_another(
    body: dict[str, Any],
    said: list[Any],
    headers: Headers,
    key: str,
    other: str,
    model: str,
    another: str,
) -> None:
    """Whatever a client sends, two keys or two models have no hash in common."""
    fields = {**body, "messages": said or body.get("messages")}
    one = conversation_of(key, model, headers, fields)
    again = conversation_of(key, model, headers, fields)
    foreign = conversation_of(other, another, headers, fields)

    assert one == again
    if (key, model) != (other, another):
        assert hashes(one).isdisjoint(hashes(foreign))
    assert all(len(found) == 16 for found in hashes(one))


@given(bodies, heads)
def test_a_body_is_not_changed(body: dict[str, Any], headers: Headers) -> None:
    """Reading a conversation leaves the fields of the body as they were."""
    before = repr(body)
    conversation_of(KEY, MODEL, headers, body)
    block_hashes(head_of(body))

    assert repr(body) == before
