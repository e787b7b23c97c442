"""The event loop's clock, for the code that runs in every request.

AnyIO looks up the running event loop on each call, which is two thirds of its cost (0.45 us, of
which Trio's own clock is 0.15), and a request asks some twenty times. The gateway runs on Trio
alone.

`now` is bound at the first look at it: modules that commands share with the server read the clock
only there, and importing Trio takes as long as such a command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio import current_time as now

__all__ = ["now"]


def __getattr__(name: str) -> Any:
    if name != "now":
        raise AttributeError(name)
    from trio import current_time  # noqa: PLC0415 - see above

    globals()["now"] = current_time
    return current_time
