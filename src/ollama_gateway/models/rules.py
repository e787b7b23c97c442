"""The rules for one matter of a model's load: its context, or how long it stays loaded."""

from __future__ import annotations

from typing import Final, Literal

import attrs

LEAST_CONTEXT: Final = 4096
"""Tokens of the smallest context with which a request may have a model loaded where the context
that is loaded decides: others who name none would get it too."""
ASSUMED_CONTEXT: Final = 128 * 1024
"""Tokens of the largest context of a model whose own is not known (Ollama before 0.30)."""


@attrs.frozen
class ContextRule:
    """A rule for `num_ctx`."""

    kind: Literal["client", "loaded", "exactly", "max"] = "client"
    tokens: int = 0
    """The tokens of `exactly` and `max`."""

    def choose(
        self, asked: int | None, estimate: int, loaded: int | None, longest: int | None
    ) -> int | None:
        """Return the context to ask for; None leaves the request as it is.

        Args:
            asked: the client's `num_ctx`.
            estimate: about as many tokens does it need that names none.
            loaded: the context with which the machine has the model loaded; None if not known.
            longest: the model's own context; None if not known.

        """
        if self.kind == "exactly":
            return self.tokens
        if self.kind == "max":
            return self.tokens if asked is not None and asked > self.tokens else None
        if self.kind == "client":
            return None
        if asked is None:
            return loaded if loaded is not None and estimate <= loaded else None
        longest = longest or ASSUMED_CONTEXT
        if loaded is not None and min(asked, longest) <= loaded:
            return loaded
        return min(max(asked, LEAST_CONTEXT), longest)


@attrs.frozen
class StayRule:
    """A rule for `keep_alive`."""

    kind: Literal["client", "exactly", "min", "max"] = "client"
    seconds: float = 0.0
    """The seconds of all kinds but `client`."""

    def choose(self, asked: float | None) -> float | None:
        """Return the stay to ask for, in seconds; None leaves the request as it is.

        Args:
            asked: the client's `keep_alive`, infinite for ever; None without one.

        """
        if self.kind == "exactly":
            return self.seconds
        if self.kind == "min":
            return self.seconds if asked is None or asked < self.seconds else None
        if self.kind == "max":
            return self.seconds if asked is not None and asked > self.seconds else None
        return None


CLIENT_CONTEXT: Final = ContextRule("client")
CLIENT_STAY: Final = StayRule("client")
"""They leave a request as it is."""
LOADED: Final = ContextRule("loaded")
HOUR: Final = StayRule("max", 3600.0)
