"""A whole answer in chunks means what it means read at once, and is held until it is known."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ollama_gateway.wire.dialects import Dialect, Reading, ReportedUsage
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect
from ollama_gateway.wire.frames import FrameGarbled, FrameTooLong
from ollama_gateway.wire.outline import MAX_KEPT_VALUE, SLICE
from ollama_gateway.wire.whole import MAX_HELD, MAX_TRAILING_SPACE, PASS_ON_SIZE, WholeAnswer
from tests.wire.scanning import chunks_of, documents, read

DIALECTS: tuple[Dialect, ...] = (
    OllamaDialect(),
    OpenAIDialect(),
    ResponsesDialect(),
    AnthropicDialect(),
)
OLLAMA = DIALECTS[0]
SHAPE = {"message": "{", "embeddings": "[", "choices": "[", "output": "[", "content": "["}
GARBLED = Reading(is_garbled=True)
_COUNT = st.sampled_from(["7", "0", "-1", "1.5", '"7"', "null", "true", "[7]", "9" * 30])
_REPORT = st.sampled_from(
    [
        '"prompt_eval_count":{0}',
        '"eval_count":{0}',
        '"usage":{{"prompt_tokens":{0},"input_tokens":{0},"output_tokens":{0}}}',
        '"usage":{0}',
        '"x":{{"usage":{{"prompt_tokens":{0}}},"error":{0}}}',
        '"error":{0}',
        '"error":{{"message":{0}}}',
        '"message":{{"content":{0}}}',
        '"embeddings":[{0}]',
        '"model":"m"',
        '"done":true',
        '"type":"message"',
    ]
)
ANSWERS = st.lists(st.builds(str.format, _REPORT, _COUNT), max_size=6).map(
    lambda members: f"{{{','.join(members)}}}".encode()
)


def taken(answer: WholeAnswer, chunks: list[bytes]) -> list[bytes]:
    """Return all chunks that it gives; raises its errors."""
    parts = [part for chunk in chunks for part in answer.feed(chunk)]
    return [*parts, *answer.finish()]


def is_valid(document: bytes) -> bool:
    """Return whether the document is a JSON object to a strict reader."""
    try:
        read(document)
    except ValueError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(st.data(), ANSWERS | documents(), st.sampled_from(DIALECTS))
def test_it_means_what_a_parser_of_the_whole_says(
    data: st.DataObject, document: bytes, dialect: Dialect
) -> None:
    """Chunks may have any size, and members may be repeated, nested or of any kind."""
    answer = WholeAnswer(dialect, SHAPE)
    chunks = [b" " * SLICE, *data.draw(chunks_of(document))]
    parts: list[bytes] = []
    with suppress(FrameGarbled):
        parts = taken(answer, chunks)

    if not is_valid(document):
        assert not parts or answer.reading.is_garbled
        event("garbled")
    else:
        assert b"".join(parts) == b"".join(chunks)
        expected = dialect.read_body(document)
        if expected.error is None and not expected.is_garbled:
            is_answer = dialect.is_answer(json.loads(document), SHAPE)
            expected = expected if is_answer else GARBLED
        assert answer.reading == expected
        event("read")


@given(ANSWERS)
def test_a_short_one_means_the_same(document: bytes) -> None:
    """An answer that is parsed at once and one that is read in outline mean the same."""
    for dialect in DIALECTS:
        short, long = WholeAnswer(dialect, SHAPE), WholeAnswer(dialect, SHAPE)
        taken(short, [document])
        taken(long, [document + b" " * SLICE])
        assert short.reading == long.reading


def test_what_it_means_is_known_as_it_passes() -> None:
    """Usage reported at the beginning counts even if the end never comes."""
    answer = WholeAnswer(OLLAMA, SHAPE)
    answer.feed(b'{"prompt_eval_count":7,"embeddings":[' + b"1," * (SLICE // 2 - 20))
    answer.feed(b"1," * 100)

    assert answer.reading.usage == ReportedUsage(7, None)
    assert not answer.is_ended


def test_of_a_long_value_it_is_known_that_it_is_there() -> None:
    """An error that is too long to keep is still an error."""
    for size in (10, MAX_KEPT_VALUE * 3):
        answer = WholeAnswer(OLLAMA, SHAPE)
        error = json.dumps({"x": "y" * SLICE, "error": "z" * size}).encode()
        taken(answer, [error[:SLICE], error[SLICE:]])
        assert answer.reading.error in {"z" * size, "backend error"}


@pytest.mark.parametrize("name", ["message", "response", "embedding", "embeddings"])
def test_it_is_passed_on_once_it_is_known_and_long(name: str) -> None:
    """No byte is passed on before; then all held chunks are, and every later one as it comes."""
    answer = WholeAnswer(OLLAMA, {name: "["})
    chunk = b"1," * (SLICE // 2)
    held = [b'{"%b":[' % name.encode(), *[chunk] * (PASS_ON_SIZE // SLICE - 1)]
    assert [part for one in held for part in answer.feed(one)] == []
    assert answer.feed(chunk) == [*held, chunk]
    assert answer.feed(chunk) == [chunk]
    assert answer.feed(b'1],"done":true}') == []
    assert answer.feed(b"\n") == []
    assert answer.finish() == [b'1],"done":true}', b"\n"]
    assert answer.reading == Reading(is_last=True)


@pytest.mark.parametrize(
    "start", [b'{"x":[', b'{"error":1,"embeddings":[', b'{"embeddings":null,"x":[']
)
def test_what_is_not_known_is_held(start: bytes) -> None:
    """An error, or an answer without a member of a good one, is held."""
    answer = WholeAnswer(OLLAMA, SHAPE)
    chunks = [start, *[b"1," * (SLICE // 2)] * (2 * PASS_ON_SIZE // SLICE)]

    assert [part for chunk in chunks for part in answer.feed(chunk)] == []
    assert answer.pass_on() == []
    assert answer.finish() == chunks
    assert answer.reading == GARBLED


def test_one_that_is_kept_is_never_passed_on() -> None:
    """A caller that changes an answer needs all of it."""
    answer = WholeAnswer(OLLAMA, {"data": "["}, is_kept=True)
    chunks = [b'{"data":[', *[b"1," * (SLICE // 2)] * (2 * PASS_ON_SIZE // SLICE), b"1]}"]

    assert [part for chunk in chunks for part in answer.feed(chunk)] == []
    assert not answer.is_good
    assert answer.finish() == chunks
    assert answer.reading == Reading(is_last=True)


def test_what_is_held_is_bounded() -> None:
    """Its length and the whitespace behind its end are bounded."""
    answer = WholeAnswer(OLLAMA, SHAPE)
    with pytest.raises(FrameTooLong):
        answer.feed(b" " * (MAX_HELD + 1))
    answer = WholeAnswer(OLLAMA, SHAPE)
    answer.feed(b'{"embeddings":[' + b" " * SLICE)
    answer.pass_on()
    answer.feed(b"]}")
    with pytest.raises(FrameTooLong):
        answer.feed(b" " * MAX_TRAILING_SPACE)
