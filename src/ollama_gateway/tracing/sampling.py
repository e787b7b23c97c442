"""Which requests are traced: the samplers that OpenTelemetry's `OTEL_TRACES_SAMPLER` names.

Source: https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers. The ratio is compared
with the last 8 bytes of the trace id, as OpenTelemetry's own SDKs do, so that all programs with one
ratio choose the same traces.
"""

from __future__ import annotations

from typing import Final

import attrs

SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
PARENT_BASED: Final = "parentbased_"
"""Before a sampler's name: a client's `traceparent` decides, the sampler where there is none."""
_LIMIT: Final = 2**64


@attrs.frozen
class Sampler:
    """Chooses traces."""

    bound: int = _LIMIT
    """Traces are chosen whose last 8 bytes are a number below it."""
    honours_parent: bool = True

    @classmethod
    def of(cls, name: str, ratio: float) -> Sampler | None:
        """Return the sampler of a name; None if there is no such sampler.

        Args:
            name: as in `OTEL_TRACES_SAMPLER`.
            ratio: from 0 to 1, for `traceidratio`.

        """
        plain = name.removeprefix(PARENT_BASED)
        if plain not in SAMPLERS:
            return None
        share = {"always_on": 1.0, "always_off": 0.0}.get(plain, ratio)
        return cls(round(share * _LIMIT), honours_parent=plain != name)

    def samples(self, trace_id: str, parent: bool | None) -> bool:  # noqa: FBT001 - a third state
        """Return whether a trace is chosen; `parent` is the client's choice, None without one."""
        if parent is not None and self.honours_parent:
            return parent
        return int(trace_id[16:], 16) < self.bound
