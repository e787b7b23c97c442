"""An upper bound of a prompt's tokens, before a backend has counted them.

A token has at least one byte of text, so the bytes of the request's JSON bound its text. The
template adds words: around the whole, around each message (even an empty one, `{}`), and in each
tool, which is printed with fields that the request left out. A request that brings its own template
may be as long as the model's context.

Some tokens are not in the request: a system prompt of the model, the price of an image. The bound
learns them: a backend that reports more than the bound raises it for the model's later requests.
Until that first underestimate the bound may be too low, and the reported tokens are charged all the
same. Requests with tools or a template teach nothing: a client could use them to raise the bound
for all others.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.bounds import Measure
from ollama_gateway.wire.counting import BYTES_PER_TOKEN

TEMPLATE_TOKENS: Final = 128
"""Tokens that a template adds around the whole prompt."""
MESSAGE_TOKENS: Final = 16
"""Tokens that it adds around a message: the marks of a role and of an end."""
TOOL_TOKENS: Final = 112
"""Tokens of an empty tool: its fields as Go prints them (api/types.go, Tool)."""
INPUT_TOKENS: Final = 8
"""Tokens that Ollama adds to each input of an embedding."""
MEDIA_TOKENS: Final = 4096
"""Tokens of an image or an audio clip, until a model reports more."""


@attrs.define
class _Learned:
    correction: int = 0
    media: int = MEDIA_TOKENS
    longest: int = 0
    """The most tokens of a prompt that had more than its bound."""


_NOTHING: Final = _Learned()


@attrs.define
class PromptBounds:
    """Bounds prompts, and learns from each model's reports since the start of the process."""

    _models: dict[str, _Learned] = attrs.field(factory=dict)

    def bound(self, model: str, measure: Measure, context: int | None) -> int:
        """Return the most tokens that the prompt can have.

        Args:
            model: the model's key.
            measure: of the request.
            context: tokens that the model was trained for, if known.

        Raises:
            BadRequest: there is no bound.

        """
        learned = self._models.get(model, _NOTHING)
        most = max(context, learned.longest) if context else math.inf
        if measure.has_template and most == math.inf:
            raise BadRequest("a key with a token budget cannot bring a template for this model")
        if measure.has_template:
            return int(most)
        if measure.inputs:
            return int(_of_inputs(measure, most)) + learned.correction
        return int(
            min(most, _of_text(measure) + learned.correction + measure.media * learned.media)
        )

    def estimated(self, model: str, measure: Measure, context: int | None) -> int:
        """Return the likely tokens of a prompt whose API reports none; see `bound`."""
        return estimate(measure, self.bound(model, measure, context))

    def learn(self, model: str, measure: Measure, bound: int, reported: int) -> bool:
        """Learn from the tokens that a backend reports; return whether the bound was too low.

        Several requests may report the same underestimate, and it is learned once: each is compared
        with its own text, without earlier lessons.
        """
        if reported <= bound:
            return False
        if measure.has_template or measure.tools:
            return True
        learned = self._models.setdefault(model, _Learned())
        if measure.inputs:
            learned.correction = max(
                learned.correction, reported - int(_of_inputs(measure, math.inf))
            )
            return True
        missing = reported - _of_text(measure)
        if measure.media:
            price = math.ceil((missing - learned.correction) / measure.media)
            learned.media = max(learned.media, price)
        else:
            learned.correction = max(learned.correction, missing)
        learned.longest = max(learned.longest, reported)
        return True


def estimate(measure: Measure, bound: int) -> int:
    """Return the likely tokens of a prompt that no backend reported, at most the bound.

    Ollama estimates the same way (anthropic/anthropic.go).
    """
    text = sum(size * count for size, count in measure.inputs.items()) or measure.text
    return min(bound, text // BYTES_PER_TOKEN + measure.media * MEDIA_TOKENS)


def _of_text(measure: Measure) -> int:
    """Return the bound of the text alone: its bytes, and the words of a template."""
    text = measure.text + measure.repeated
    return text + measure.messages * MESSAGE_TOKENS + measure.tools * TOOL_TOKENS + TEMPLATE_TOKENS


def _of_inputs(measure: Measure, most: float) -> float:
    return sum(min(most, size + INPUT_TOKENS) * count for size, count in measure.inputs.items())
