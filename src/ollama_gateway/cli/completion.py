"""Complete names of keys, backends and models in the shell.

A completion prints nothing but names, and ends after `SECONDS`, whatever a server does. bash splits
a word at `:`, `=` and `@` (COMP_WORDBREAKS) and replaces only the last part, but names of models
contain colons: so the parts are joined before typer reads the command line, and of each name only
the part that bash replaces is printed.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import typer

from ollama_gateway.cli.lines import say

if TYPE_CHECKING:
    from ollama_gateway.cli.remote.address import AdminAddress
    from ollama_gateway.settings import Settings

PATHS: Final = ("config", "token_file", "ca_file")
"""Parameters of commands that are paths; a completion has them as texts."""
SECONDS: Final = 1.5
"""Time to find names; after that the shell gets none."""
_VARIABLE: Final = "_GATEWAYCTL_COMPLETE"
_BREAKS: Final = re.compile(r"[:=@]+")
_PLAIN: Final = re.compile(r"[\w%+,./:=@-]*")
"""Text that a shell takes as it is."""


@contextlib.contextmanager
def bash_words(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Join the words that bash has split, and print names as bash takes them.

    Nothing happens if this process is not asked for a completion by bash.
    """
    place = environ.get("COMP_CWORD", "")
    if environ.get(_VARIABLE) != "complete_bash" or not place.isdecimal():
        yield
        return
    words = _joined(environ.get("COMP_WORDS", "").split("\n")[: int(place) + 1])
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    found = io.StringIO()
    try:
        with contextlib.redirect_stdout(found):
            yield
    finally:
        start = _end_of_breaks(_value_in(words[-1]))
        for name in found.getvalue().splitlines():
            say(_quoted(name[start:]))


def _joined(words: Iterable[str]) -> list[str]:
    joined: list[str] = []
    before = ""
    for word in words:
        if joined and word and (_BREAKS.fullmatch(word) or _BREAKS.fullmatch(before)):
            joined[-1] += word
        else:
            joined.append(word)
        before = word
    return joined


def _value_in(word: str) -> str:
    """Return the value that a word completes: all of it, or what stands behind `--option=`."""
    option, equals, value = word.partition("=")
    return value if option.startswith("--") and equals else word


def _end_of_breaks(word: str) -> int:
    """Return how many characters of a word stay on the command line."""
    return max((found.end() for found in _BREAKS.finditer(word)), default=0)


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else shlex.quote(name)


def complete_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a key."""
    from ollama_gateway.cli.known_names import key_names  # noqa: PLC0415 - help needs no settings

    return _complete(key_names, ctx, incomplete)


def complete_backend(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a backend."""
    from ollama_gateway.cli.known_names import backend_names  # noqa: PLC0415 - as above

    return _complete(backend_names, ctx, incomplete)


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a model."""
    from ollama_gateway.cli.known_names import model_names  # noqa: PLC0415 - as above

    return _complete(model_names, ctx, incomplete)


def complete_context(incomplete: str) -> list[str]:
    """Complete the name of a context."""
    from ollama_gateway.cli.remote.contexts import (  # noqa: PLC0415 - only where it completes
        ContextsBroken,
        read_contexts,
    )

    try:
        names = read_contexts().by_name
    except ContextsBroken:
        return []
    return [name for name in names if name.startswith(incomplete) and name.isprintable()]


def _complete(
    names: Callable[[Settings | AdminAddress], Iterable[str]], ctx: typer.Context, incomplete: str
) -> list[str]:
    """Return the names that begin so, if they are found in time."""
    found: list[str] = []
    thread = Thread(target=lambda: found.extend(_names_in(names, ctx)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    return [name for name in found if name.startswith(incomplete) and name.isprintable()]


def _names_in(
    names: Callable[[Settings | AdminAddress], Iterable[str]], ctx: typer.Context
) -> Iterable[str]:
    import attrs  # noqa: PLC0415 - as above

    from ollama_gateway.cli.remote.choice import GatewayChoice  # noqa: PLC0415 - as above
    from ollama_gateway.settings import SettingsError, load  # noqa: PLC0415 - as above

    names_of_options = attrs.fields_dict(GatewayChoice)
    given: dict[str, Any] = {name: ctx.params.get(name) for name in names_of_options}
    paths = {name: Path(given[name]) for name in PATHS if given[name]}
    choice = GatewayChoice(**{**given, **paths})
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            far = choice.remote()
            return names(far or load(choice.config).settings)
        except (SettingsError, SystemExit):
            return ()
