"""Answers carry the name that the client asked for, and are otherwise unchanged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_gateway.wire.renaming import HEAD, TAIL, Renaming, WholeRenaming

NATIVE = (
    '{"model":"%s","created_at":"2026-01-01T00:00:00Z","message":{"content":"%s"},"done":false}\n'
)
CHAT = 'data: {"id":"c-1","object":"x","created":1,"model":"%s","choices":[{"delta":"%s"}]}\n\n'
COMPLETION = (
    'data: {"id":"c-1","choices":[{"text":"%s"}],"model":"%s","system_fingerprint":"f"}\n\n'
)
START = (
    'event: message_start\ndata: {"type":"message_start","message":{"id":"m","content":"%s",'
    '"model":"%s"}}\n\n'
)
CREATED = (
    'event: response.created\ndata: {"response":{"instructions":"%s","metadata":{"model":"x"},'
    '"model":"%s","output":[]},"type":"response.created"}\n\n'
)
TEXTS = ["", "Hello", '\\"model\\":\\"m:1\\"', "{[,:", "\u65e5\u672c", "y" * 300]


def renamed(frames: list[str], inside: str | None = None) -> list[str]:
    """Return frames of one answer for a client that asked for `gpt-4o`."""
    renaming = Renaming("gpt-4o", inside)
    return [renaming.frame(frame.encode()).decode() for frame in frames]


@pytest.mark.parametrize("model", ["m:1", "registry.example/me/a-very-long-name:70b-instruct"])
def test_every_frame_of_a_stream_has_the_name(model: str) -> None:
    """The name is replaced wherever a dialect writes it, whatever the text is."""
    for shape in (NATIVE, CHAT):
        assert renamed([shape % (model, t) for t in TEXTS]) == [
            shape % ("gpt-4o", t) for t in TEXTS
        ]
    frames = [COMPLETION % (text, model) for text in TEXTS]
    assert renamed(frames) == [COMPLETION % (text, "gpt-4o") for text in TEXTS]
    for shape, inside in ((START, "message"), (CREATED, "response")):
        frames = [shape % (text, model) for text in TEXTS]
        assert renamed(frames, inside) == [shape % (text, "gpt-4o") for text in TEXTS]


@pytest.mark.parametrize(
    "frame",
    [
        "data: [DONE]\n\n",
        'event: ping\ndata: {"type":"ping"}\n\n',
        '{"error":"the \\"model\\" is gone"}\n',
        '{"message":{"tool_calls":[{"function":{"arguments":{"model":"m:1"}}}]}}\n',
        '{"model":5}\n',
        '{"model":null,"x":"model"}\n',
        '{"x":"model"',
        '"model":"m:1"',
        "[" * 5000 + '"model"',
        '{"x":' + "[" * 5000 + '"model"',
    ],
)
def test_a_frame_without_a_name_stays_as_it_is(frame: str) -> None:
    """Frames that name no model pass unchanged, broken ones and arguments of tools included."""
    assert renamed([frame, frame]) == [frame, frame]


def test_a_frame_that_differs_from_the_last_is_read_again() -> None:
    """The offset is only a guess: a later frame may have its name elsewhere, or another one."""
    frames = ['{"model":"m:1","x":1}\n', '{"x":1,"model":"m:1"}\n', '{"model":"other","x":1}\n']

    assert renamed(frames) == [
        '{"model":"gpt-4o","x":1}\n',
        '{"x":1,"model":"gpt-4o"}\n',
        '{"model":"gpt-4o","x":1}\n',
    ]


def test_a_name_is_written_as_json() -> None:
    """Whatever characters a client wrote, the answer stays JSON."""
    (frame,) = [Renaming('\u00a0m"\n').frame(b'{"model" : "m:1"}')]

    assert json.loads(frame) == {"model": '\u00a0m"\n'}


_VECTORS = st.integers(0, 40).map(lambda size: [[0.5] * 64] * size)


@settings(max_examples=60, deadline=None)
@given(_VECTORS, st.lists(st.integers(1, 100_000), min_size=1, max_size=8), st.booleans())
def test_a_whole_answer_may_come_in_any_parts(
    vectors: list[list[float]],
    sizes: list[int],
    is_first: bool,  # noqa: FBT001 - generated
) -> None:
    """Before or behind vectors of any length, the name is replaced however the answer is cut."""
    name, data = {"model": "m:1"}, {"data": vectors * 20}
    usage = {"usage": {"model": "m:1"}}
    document = {**name, **data, **usage} if is_first else {**data, **name, **usage}
    body = json.dumps(document).encode()
    answer, sent, at = WholeRenaming(Renaming("gpt-4o")), b"", 0
    for size in [*sizes, len(body)]:
        sent += answer.feed(body[at : at + size])
        at += size
    sent += answer.finish()

    assert json.loads(sent) == {**document, "model": "gpt-4o"}


def test_a_long_answer_is_passed_on_while_its_end_is_awaited() -> None:
    """Of an answer without a name in its head, only what may hold the name is held back."""
    answer = WholeRenaming(Renaming("gpt-4o"))
    parts = [
        answer.feed(b'{"data":[' + b"1," * HEAD),
        answer.feed(b'1],"model":"m:1"'),
        answer.feed(b"}"),
    ]
    held = answer.finish()

    assert len(held) == TAIL + len('"gpt-4o"') - len('"m:1"')
    assert b"".join(parts).startswith(b'{"data":[1,')
    assert held.endswith(b'],"model":"gpt-4o"}')
