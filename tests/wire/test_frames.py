"""Frames: where bytes are cut, held back and refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.frames import (
    MAX_FRAME,
    EventFrames,
    Frames,
    FrameTooLong,
    LineFrames,
    WholeBody,
    frames_for,
)

NDJSON = '{"a":"é\u2028\u0085\x0b"}\n{"b":2}\n{"c":3}\n'.encode()
EVENTS = b'data: {"a":1}\n\nevent: x\ndata: {"b":2}\n\ndata: [DONE]\n\n'


def fed(frames: Frames, chunks: list[bytes]) -> list[bytes]:
    """Return all frames that the chunks give."""
    return [frame for chunk in chunks for frame in frames.feed(chunk)]


@pytest.mark.parametrize(
    ("frames", "stream", "count"), [(LineFrames, NDJSON, 3), (EventFrames, EVENTS, 3)]
)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_however_a_stream_is_cut_its_frames_are_the_same(
    frames: type[LineFrames | EventFrames], stream: bytes, count: int, cuts: list[int]
) -> None:
    """The frames joined are the bytes that came, whatever the sizes of the reads."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(places)]

    found = fed(frames(), chunks)

    assert (b"".join(found), len(found)) == (stream, count)


def test_only_newlines_end_a_line() -> None:
    """U+2028, U+0085 and a vertical tab in a JSON string do not end a line."""
    assert fed(LineFrames(), [NDJSON])[0] == NDJSON.split(b"\n")[0] + b"\n"


def test_blank_lines_are_left_out() -> None:
    """Blank lines are dropped, as Python's client fails on them."""
    assert fed(LineFrames(), [b"\n\n{}\n", b"\r\n", b"\n{}\n"]) == [b"{}\n", b"{}\n"]


def test_events_may_end_in_crlf() -> None:
    """A blank line in either line ending ends an event."""
    stream = b"data: 1\r\n\r\ndata: 2\n\n"

    assert fed(EventFrames(), [stream]) == [b"data: 1\r\n\r\n", b"data: 2\n\n"]


@pytest.mark.parametrize("frames", [LineFrames, EventFrames])
def test_a_frame_without_end_is_bounded(frames: type[LineFrames | EventFrames]) -> None:
    """A frame without an end is given up at 16 MiB."""
    cutter = frames()
    cutter.feed(b"x" * MAX_FRAME)
    with pytest.raises(FrameTooLong):
        cutter.feed(b"x")


@pytest.mark.parametrize("frames", [LineFrames, EventFrames])
def test_the_end_completes_no_cut_frame(frames: type[LineFrames | EventFrames]) -> None:
    """A last line or event without its end is not completed."""
    cutter = frames()
    cutter.feed(b"data: half")

    assert cutter.finish() == []


def test_a_json_body_is_whole_at_its_end() -> None:
    """A JSON document is one frame, and only the end of the body completes it."""
    body = WholeBody()

    assert body.feed(b'{"a":') == []
    assert body.feed(b"1}") == []
    assert body.finish() == [b'{"a":1}']


def test_a_json_body_is_bounded() -> None:
    """A body over its limit is given up."""
    with pytest.raises(FrameTooLong):
        WholeBody(limit=10).feed(b"x" * 11)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/x-ndjson", LineFrames),
        ("text/event-stream", EventFrames),
        ("text/event-stream; charset=utf-8", EventFrames),
        ("application/json; charset=utf-8", WholeBody),
        ("APPLICATION/JSON", WholeBody),
        ("text/html", type(None)),
        ("", type(None)),
    ],
)
def test_the_content_type_says_how_to_cut(content_type: str, kind: type[object]) -> None:
    """A content type that no Ollama sends on these routes has no cutter."""
    assert type(frames_for(content_type)) is kind
