"""A large body measures as much as if it were read whole, and never less."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import measure_document, measured, measured_inputs
from ollama_gateway.wire.large import fields_of
from ollama_gateway.wire.structure import Cutting
from tests.wire.scanning import PICTURES, RUN, encoded, large, run

BOUNDS: Final = (("max_tokens",),)


@pytest.mark.parametrize("document", PICTURES)
@pytest.mark.parametrize("escapes", [False, True])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_it_measures_as_much(document: dict[str, Any], size: int, *, escapes: bool) -> None:
    """Pictures add no bytes and texts add all of theirs, as in a body that is read whole."""
    body = json.dumps(document, ensure_ascii=escapes).encode()
    found = large(body, step=size, cutting=Cutting(60, 10_000))

    assert run(measured(found, run(fields_of(found)), BOUNDS)) == measure_document(
        parse(body), len(body), BOUNDS
    )


MESSAGES: Final = st.lists(
    st.fixed_dictionaries(
        {"role": st.just("user")},
        optional={
            "content": st.text(max_size=40)
            | st.lists(
                st.sampled_from(
                    [
                        {"type": "text", "text": "x" * 40},
                        {"type": "image", "source": {"data": "A" * 40}},
                        {"type": "image_url", "image_url": "A" * 10},
                        {"type": "tool_result", "content": [{"type": "image", "data": "A"}]},
                    ]
                ),
                max_size=3,
            ),
            "images": st.lists(st.just("A" * 30), max_size=3),
        },
    ),
    max_size=5,
)


@settings(deadline=None)
@given(MESSAGES, st.sampled_from([1, 5, 17]))
def test_what_is_divided_measures_no_less(messages: list[Any], step: int) -> None:
    """A cut may count something twice, but never takes anything away."""
    body = encoded({"model": "m", "messages": messages, "max_tokens": 7})
    found = large(body, step=step)
    whole, seen = (
        measure_document(parse(body), len(body), BOUNDS),
        run(measured(found, run(fields_of(found)), BOUNDS)),
    )

    assert seen.text == whole.text
    assert seen.media >= whole.media
    assert seen.messages >= whole.messages
    assert (seen.asked, seen.written) == (7, 7)


def test_a_namespace_that_is_divided_is_refused() -> None:
    """Parts cannot show how often the namespace's name is written, and a budget would not hold."""
    tools = [{"type": "namespace", "name": "n" * 50, "tools": [{"name": "t"}] * 50}]
    found = large(encoded({"model": "m", "tools": tools}))
    with pytest.raises(BadRequest, match="namespace of tools is too large"):
        run(measured(found, run(fields_of(found)), BOUNDS))


@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
def test_a_namespace_that_is_divided_outside_of_its_tools_is_refused(*, is_last: bool) -> None:
    """A cut before or behind a namespace's tools leaves its name in another part."""
    members = {"name": "n" * 50, "pad": [1] * 200, "tools": [{"name": "t"}]}
    if is_last:
        members = dict(reversed(members.items()))
    found = large(encoded({"model": "m", "tools": [{"type": "namespace", **members}]}))
    with pytest.raises(BadRequest, match="namespace of tools is too large"):
        run(measured(found, run(fields_of(found)), BOUNDS))


@pytest.mark.parametrize(
    "value",
    [
        *(
            ["a", RUN, "\u00e9\U0001f600" * 20, f"{RUN}\n"],
            RUN,
            "x",
            [],
            [[1, 2], [3]],
            [1, 2] * 50,
        ),
        *(None, 5, {"a": RUN}, [RUN, 5], ["a"] * 100),
    ],
)
@pytest.mark.parametrize("escapes", [False, True])
def test_inputs_measure_as_much(value: Any, *, escapes: bool) -> None:
    """Texts to embed are measured one by one, or else as the whole body."""
    body = json.dumps({"model": "m", "INPUT": value}, ensure_ascii=escapes).encode()
    found = large(body)

    assert run(measured_inputs(found, run(fields_of(found)), "input")) == run(
        measured_inputs(body, parse(body), "input")
    )
