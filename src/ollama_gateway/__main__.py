"""`gatewayctl`, also as `python -m ollama_gateway`.

Ctrl-C ends every command with exit code 130 and without a traceback. While modules are imported,
and once a command has ended, it ends the process at once: nothing needs a clean-up then, and Python
would report an exception that arises in a finalizer or at its exit. `serve` drains instead.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it."""


def main() -> None:
    """Run the command line."""
    _on_interrupt(_exit_at_once)
    run = _command(sys.argv[1:])
    _on_interrupt(signal.default_int_handler)
    try:
        code = run()
    except BrokenPipeError:
        # Python flushes stdout at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        code = INTERRUPTED
    finally:
        _on_interrupt(_exit_at_once)
    sys.exit(code)


def _command(arguments: Sequence[str]) -> Callable[[], int]:
    """Import what a command needs, and nothing else, and return a call that runs it."""
    if arguments[:1] == ["health"]:
        from ollama_gateway.cli.health import answer, question_of  # noqa: PLC0415

        if question := question_of(arguments[1:]):
            return lambda: answer(question)
    from ollama_gateway.cli.main import COMMANDS, import_command, run  # noqa: PLC0415

    if arguments and arguments[0] in COMMANDS:
        import_command(arguments[0])
    return lambda: run(arguments)


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
