"""An upper bound of a prompt's tokens, before anyone has counted them.

A token is at least a byte of text, so the bytes of the request's JSON bound its text, with room for
a template's own words, round the whole and round each message (`{}` is one too). A request that
brings a template of its own may be as long as the model's context.

What cannot be seen in the request (a system prompt that a model brings, the price of an image) is
learned: a backend that reports more than the bound raises it for the model's later requests. Until
that first surprise the bound may be too low, and what is reported is charged all the same.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.bounds import Measure

TEMPLATE: Final = 128
"""Tokens that a template adds round the whole."""
MESSAGE: Final = 16
"""Tokens that it adds round a message: the marks of a role and of an end."""
INPUT: Final = 8
"""Tokens that are added to each input of an embedding."""
MEDIA: Final = 4096
"""Tokens of an image or a piece of audio, until a model reports more."""
BYTES_A_TOKEN: Final = 4
"""For an estimate, as Ollama makes it (anthropic/anthropic.go): the bytes of text of one token."""


@attrs.define
class _Learned:
    surplus: int = 0
    media: int = MEDIA
    longest: int = 0
    """The most tokens that were ever reported of a prompt, were they more than its context."""


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
        learned = self._models.get(model) or _Learned()
        most = max(context, learned.longest) if context else math.inf
        if measure.has_template and most == math.inf:
            raise BadRequest("a key with a token budget cannot bring a template for this model")
        if measure.has_template:
            return int(most)
        if measure.inputs:
            found = sum(min(most, size + INPUT) for size in measure.inputs) + learned.surplus
        else:
            text = measure.text + measure.messages * MESSAGE + TEMPLATE + learned.surplus
            found = min(most, text + measure.media * learned.media)
        return int(found)

    def learn(self, model: str, measure: Measure, bound: int, reported: int) -> bool:
        """Take in what a backend reports; whether it was a surprise."""
        if reported <= bound or measure.has_template:
            return False
        learned = self._models.setdefault(model, _Learned())
        if measure.media:
            learned.media += math.ceil((reported - bound) / measure.media)
        else:
            learned.surplus += reported - bound
        learned.longest = max(learned.longest, reported)
        return True


def estimate(measure: Measure, bound: int) -> int:
    """Tokens of a prompt of which there is no report: what it likely had, at most the bound."""
    return min(bound, (sum(measure.inputs) or measure.text) // BYTES_A_TOKEN)
