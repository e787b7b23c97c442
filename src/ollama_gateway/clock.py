"""The event loop's clock, for what is on every request's way.

AnyIO looks up which event loop runs each time it is asked, which is two thirds of its answer's
cost (0.45 us of which Trio's own is 0.15), and a request asks some twenty times. The gateway runs
on Trio alone.
"""

from __future__ import annotations

from trio import current_time as now

__all__ = ["now"]
