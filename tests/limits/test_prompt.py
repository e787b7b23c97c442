"""The bound of a prompt: its parts, and the ways in which it learns."""

from __future__ import annotations

from collections import Counter

import pytest

from ollama_gateway.errors import BadRequest
from ollama_gateway.limits.prompt import PromptBounds, estimate
from ollama_gateway.wire.bounds import Measure

TEXT = Measure(text=1000, media=0, messages=2)
PICTURES = Measure(text=100, media=2, messages=1)
INPUTS = Measure(text=300, media=0, inputs=Counter([10, 200]))


@pytest.mark.parametrize(
    ("measure", "context", "bound"),
    [
        (TEXT, None, 1000 + 2 * 16 + 128),
        (TEXT, 8192, 1160),
        (TEXT, 512, 512),
        (PICTURES, None, 100 + 16 + 128 + 2 * 4096),
        (PICTURES, 4096, 4096),
        (INPUTS, None, 18 + 208),
        (INPUTS, 100, 18 + 100),
        (Measure(text=50, media=0, has_template=True), 8192, 8192),
        (Measure(text=50, media=0, tools=3), None, 50 + 3 * 112 + 128),
    ],
)
def test_a_bound_is_made_of_bytes_and_pieces(
    measure: Measure, context: int | None, bound: int
) -> None:
    """A bound is bytes of text, words of a template, a price a picture; at most the context."""
    assert PromptBounds().bound("m", measure, context) == bound


def test_a_template_needs_a_known_context() -> None:
    """A text that may be repeated any number of times has only the model's context as its bound."""
    with pytest.raises(BadRequest, match="template"):
        PromptBounds().bound("m", Measure(text=50, media=0, has_template=True), None)


def test_a_report_within_the_bound_teaches_nothing() -> None:
    """A report within the bound leaves everything as it is."""
    bounds = PromptBounds()

    assert not bounds.learn("m", TEXT, 1160, 1160)
    assert bounds.bound("m", TEXT, None) == 1160


def test_an_underestimate_raises_the_bound_of_this_model() -> None:
    """The excess of a report is added to the later bounds of this model alone."""
    bounds = PromptBounds()

    assert bounds.learn("m", TEXT, 1160, 1500)
    assert bounds.bound("m", TEXT, None) == 1500
    assert bounds.bound("m", INPUTS, None) == 226 + 340
    assert bounds.bound("other", TEXT, None) == 1160


def test_an_underestimate_with_pictures_raises_their_price() -> None:
    """The pictures get the excess, as their size was the guess; text alone keeps its bound."""
    bounds = PromptBounds()
    first = bounds.bound("m", PICTURES, None)

    assert bounds.learn("m", PICTURES, first, first + 101)
    assert bounds.bound("m", PICTURES, None) == first + 2 * 51
    assert bounds.bound("m", TEXT, None) == 1160


def test_a_report_above_the_context_raises_that_too() -> None:
    """A context that is listed too small does not hold the bound down for ever."""
    bounds = PromptBounds()

    assert bounds.learn("m", TEXT, 512, 900)
    assert bounds.bound("m", TEXT, 512) == 900


def test_an_underestimate_is_learned_once() -> None:
    """Several requests that ran at once report the same excess, and the bound rises by it once."""
    bounds = PromptBounds()
    for _ in range(20):
        assert bounds.learn("m", TEXT, 1160, 1500)
        assert bounds.learn("pictures", PICTURES, 8436, 9000)
        assert bounds.learn("inputs", INPUTS, 226, 300)

    assert bounds.bound("m", TEXT, None) == 1500
    assert bounds.bound("pictures", PICTURES, None) == 9000
    assert bounds.bound("inputs", INPUTS, None) == 300
    assert bounds.bound("inputs", INPUTS, 100) == 118 + 74


@pytest.mark.parametrize(
    "measure",
    [Measure(text=50, media=0, has_template=True), Measure(text=50, media=0, tools=1)],
)
def test_tools_and_templates_teach_nothing(measure: Measure) -> None:
    """One client cannot raise the bound for all; the underestimate is still reported."""
    bounds = PromptBounds()

    assert bounds.learn("m", measure, 100, 10_000)
    assert bounds.bound("m", TEXT, None) == 1160


@pytest.mark.parametrize(
    ("measure", "bound", "tokens"),
    [
        (TEXT, 1160, 250),
        (TEXT, 100, 100),
        (INPUTS, 226, 52),
        (PICTURES, 8436, 25 + 8192),
        (PICTURES, 4096, 4096),
    ],
)
def test_an_estimate_is_a_quarter_of_the_bytes(measure: Measure, bound: int, tokens: int) -> None:
    """An estimate also has the price of each picture, and is never more than the bound."""
    assert estimate(measure, bound) == tokens
