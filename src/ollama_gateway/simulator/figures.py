"""The work a simulator has done so far, readable from outside its process.

`GET /simulator/figures` returns it as JSON. No real Ollama has that path, so the table of routes
does not contain it: it exists only if the simulator was started to show its figures.
"""

from __future__ import annotations

import attrs

PATH = "/simulator/figures"


@attrs.frozen
class Figures:
    """The figures of one moment, of inference requests only.

    Args:
        in_flight: requests being served now.
        most_in_flight: the most there ever were at once.
        requests: all requests, refused ones included.
        prompt_tokens: of all prompts that a model has begun with.
        completion_tokens: generated so far, even if no client waited for the rest.
        cached_tokens: those of prompts that a prefix cache held.

    """

    in_flight: int
    most_in_flight: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
