"""`gatewayctl`, also as `python -m ollama_gateway`.

Ctrl-C ends every command with exit code 130 and without a traceback. While modules are imported,
and once a command has ended, it ends the process at once: nothing needs a clean-up then, and Python
would report an exception that arises in a finalizer or at its exit. `serve` drains instead.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

HEALTH = "health"
"""A container's health check runs this command every few seconds. It does not import the other
commands, which would more than double its cost."""
INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it."""


def main() -> None:
    """Run the command line."""
    _on_interrupt(_exit_at_once)
    run = _health() if sys.argv[1:2] == [HEALTH] else _all()
    _on_interrupt(signal.default_int_handler)
    try:
        code = run()
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        code = INTERRUPTED
    finally:
        _on_interrupt(_exit_at_once)
    sys.exit(code)


def _all() -> Callable[[], int]:
    from ollama_gateway.cli.main import run  # noqa: PLC0415 - see HEALTH

    return lambda: run(sys.argv[1:])


def _health() -> Callable[[], int]:
    import typer  # noqa: PLC0415 - Ctrl-C, see above

    from ollama_gateway.cli.health import health  # noqa: PLC0415 - see HEALTH

    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, context_settings=names)
    app.command(HEALTH)(health)
    return lambda: app(sys.argv[2:], prog_name=f"gatewayctl {HEALTH}")


def _on_interrupt(handler: Callable[..., object]) -> None:
    """Handle Ctrl-C from now on, unless it is ignored, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _exit_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


def _is_interrupt(error: BaseException) -> bool:
    """Return True for KeyboardInterrupt, also from a task, beside the errors that it has caused."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


if __name__ == "__main__":
    main()
