"""Complete the names of contexts; kept apart, since the options of every command name it."""

from __future__ import annotations


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
