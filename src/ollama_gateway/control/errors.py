"""Errors of the control surface: what was asked for cannot be, and why, for the one who asked."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


class ControlError(Exception):
    """Something cannot be read or changed; the message is one printable line for operators."""


class NoSuchThing(ControlError):
    """Nothing has the id or the name that was given."""


class AlreadyThere(ControlError):
    """Something has the id or the name already that was given for a new thing."""


class Conflict(ControlError):
    """The thing is not in the state that the change needs."""


class ChangedMeanwhile(ControlError):
    """The thing is no longer as it was when the change was decided."""


@attrs.frozen
class Problem:
    """One thing that is wrong with the input."""

    where: str
    """A JSON pointer into the document (`/name`), or the name of a query parameter."""
    detail: str
    """Half a sentence about its value."""


class WrongInput(ControlError):
    """The input cannot be used.

    Args:
        problems: all that is wrong with it.

    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{one.where}: {one.detail}" for one in problems))
        self.problems = tuple(problems)
