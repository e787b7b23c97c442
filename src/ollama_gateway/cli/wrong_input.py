"""Wrong input as typer reports it: by the name of the option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ollama_gateway.control.errors import WrongInput


@contextmanager
def as_options() -> Iterator[None]:
    """Report the first problem of wrong input as one of an option of the same name."""
    try:
        yield
    except WrongInput as error:
        first = error.problems[0]
        raise typer.BadParameter(first.detail, param_hint=f"--{first.where}") from None
