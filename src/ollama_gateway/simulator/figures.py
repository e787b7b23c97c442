"""What a simulator has served so far, to be read from outside its process.

`GET /simulator/figures` gives it as JSON. No real Ollama has that path, so the table of routes does
not know it: it is there only where the simulator was told to show its figures.
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
        requests: how many there were, also those that were refused.
        prompt_tokens: of all prompts that a model has begun with.
        completion_tokens: generated so far, also where nobody waited for the rest.

    """

    in_flight: int
    most_in_flight: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
