"""`python -m ollama_gateway.simulator --port P --model NAME...`, as `serving.py` runs it.

Ctrl-C ends it with 130 and without a traceback while its modules are imported; later it ends the
simulator.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it."""


def main() -> int:
    """Import the simulator and run it until a signal; return the exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _exit_at_once)
    from ollama_gateway.simulator.serving import serve  # noqa: PLC0415 - see above

    return serve(sys.argv[1:])


def _exit_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
