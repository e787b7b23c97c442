"""An upper bound of a prompt's tokens, before anyone has counted them.

A token is at least a byte of text, so the bytes of the request's JSON bound its text, with room for
a template's own words: round the whole, round each message (`{}` is one too), and in each tool,
which is printed with fields that the request left out. A request that brings a template of its own
may be as long as the model's context.

What cannot be seen in the request (a system prompt that a model brings, the price of an image) is
learned: a backend that reports more than the bound raises it for the model's later requests. Until
that first surprise the bound may be too low, and what is reported is charged all the same. From
requests with tools or a template nothing is learned: a client could make them say anything, and
raise the bound for all.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.bounds import Measure

TEMPLATE_TOKENS: Final = 128
"""Tokens that a template adds round the whole."""
MESSAGE_TOKENS: Final = 16
"""Tokens that it adds round a message: the marks of a role and of an end."""
TOOL_TOKENS: Final = 112
"""Tokens of a tool of which nothing is said: its fields as Go prints them (api/types.go, Tool)."""
INPUT_TOKENS: Final = 8
"""Tokens that are added to each input of an embedding."""
MEDIA_TOKENS: Final = 4096
"""Tokens of an image or a piece of audio, until a model reports more."""
BYTES_A_TOKEN: Final = 4
"""For an estimate, as Ollama makes it (anthropic/anthropic.go): the bytes of text of one token."""


@attrs.define
class _Learned:
    correction: int = 0
    media: int = MEDIA_TOKENS
    longest: int = 0
    """The most tokens that a prompt was reported to have, where that was more than its bound."""


_NOTHING: Final = _Learned()


@attrs.define
class PromptBounds:
    """What was learned of each model since the start of the process."""

    _models: dict[str, _Learned] = attrs.field(factory=dict)

    def bound(self, model: str, measure: Measure, context: int | None) -> int:
        """Tokens of the prompt, at most.

        Args:
            model: its key.
            measure: of the request.
            context: tokens that the model was trained for, where that is known.

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
        """Tokens that a prompt likely had, where its API has no word for it; as `bound`."""
        return estimate(measure, self.bound(model, measure, context))

    def learn(self, model: str, measure: Measure, bound: int, reported: int) -> bool:
        """Take in what a backend reports; whether it was more than the bound.

        However many requests report the same surprise, it is learned once: what counts is by how
        much the request alone falls short.
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
    """Tokens of a prompt of which there is no report: what it likely had, at most the bound."""
    text = sum(size * count for size, count in measure.inputs.items()) or measure.text
    return min(bound, text // BYTES_A_TOKEN + measure.media * MEDIA_TOKENS)


def _of_text(measure: Measure) -> int:
    """What can be seen of the text: bytes, and what a template adds."""
    text = measure.text + measure.repeated
    return text + measure.messages * MESSAGE_TOKENS + measure.tools * TOOL_TOKENS + TEMPLATE_TOKENS


def _of_inputs(measure: Measure, most: float) -> float:
    return sum(min(most, size + INPUT_TOKENS) * count for size, count in measure.inputs.items())
