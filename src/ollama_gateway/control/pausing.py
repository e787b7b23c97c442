"""Pause and resume backends: the file that gateways with this data directory watch is changed.

No gateway needs to run. The functions block, and raise PausesBroken if the file cannot be used,
and ChangeNotRecorded; then it is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.control.actor import Actor
from ollama_gateway.control.suggesting import unknown_backend
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange


@attrs.frozen
class PauseControl:
    """The pause file of a data directory, and where its changes are recorded."""

    file: PauseFile
    recorder: ChangeRecorder

    def pause(
        self, name: str, known: Sequence[str], actor: Actor, reason: str | None = None
    ) -> frozenset[str]:
        """Pause a backend; return the names of all that are paused then.

        Args:
            name: the backend's.
            known: the names of all backends; raises NoSuchThing for any other.
            actor: who asks.
            reason: the actor's own words.

        """
        if name not in known:
            raise unknown_backend(name, known)
        return self._set(name, actor, reason, is_paused=True)

    def resume(
        self, name: str, known: Sequence[str], actor: Actor, reason: str | None = None
    ) -> frozenset[str]:
        """Do the opposite; a name that is only in the file is taken off it, too."""
        if name not in {*known, *self.file.read()}:
            raise unknown_backend(name, known)
        return self._set(name, actor, reason, is_paused=False)

    def _set(
        self, name: str, actor: Actor, reason: str | None, *, is_paused: bool
    ) -> frozenset[str]:
        names = self.file.read()
        if (name in names) == is_paused:
            return names  # nothing changes, so there is nothing to record
        verb, change = ("pause", self.file.add) if is_paused else ("resume", self.file.remove)
        made = OperatorChange(
            by=actor.name,
            action=f"backends.{verb}",
            target=name,
            before={"paused": not is_paused},
            after={"paused": is_paused},
            reason=reason,
        )
        with self.recorder.making(made):
            return change(name)
