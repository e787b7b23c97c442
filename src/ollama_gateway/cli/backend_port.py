"""The backends that commands work on: this machine's, or those of a gateway asked by HTTP.

The commands know nothing but `BackendsPort`, so they are the same wherever the backends are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from ollama_gateway.backends.pausing import PauseFile, PausesBroken
from ollama_gateway.cli.admin import NoAnswer, ask, unanswered, unexpected
from ollama_gateway.cli.lines import exit_with, say
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.pending import PendingChange, pending_or_none
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.choice import GatewayChoice
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings

if TYPE_CHECKING:
    from ollama_gateway.cli.remote.client import AdminClient
    from ollama_gateway.control.pausing import PauseControl

IN_FORCE_SECONDS: Final = 3.0
"""Time for a gateway to follow the file, which it reads twice a second."""
_NAP: Final = 0.1

Document = dict[str, Any]


@attrs.frozen
class BackendStatus:
    """One backend in the running gateway."""

    priority: int
    slots: int
    paused: bool | None
    """None here and below: unknown, as no gateway answers."""
    up: bool | None = None
    in_flight: int | None = None
    """Attempts that are running there."""
    models: int | None = None
    loaded: int | None = None
    version: str | None = None
    learned_capacity: int | None = None
    """The largest of its models; it takes the place of `slots` where these are 0."""

    @property
    def state(self) -> str:
        """The state for people: `up`, `down`, `?`, or one of them after `paused, `."""
        state = {True: "up", False: "down", None: "?"}[self.up]
        return f"paused, {state}" if self.paused else state


class BackendsPort(Protocol):
    """The backends of one gateway. Each method ends the command if it cannot do its work."""

    is_whole: bool
    """Whether `documents` could read all that it needs."""

    def documents(self) -> list[Document]:
        """Return the backends, the preferred one first."""
        ...

    def pending(self) -> Sequence[PendingChange]:
        """Return the settings that are not in force."""
        ...

    def set_paused(self, name: str, *, is_paused: bool) -> Document:
        """Pause or resume a backend; return `name`, `paused`, `in_flight` and `in_force`.

        The last two are None if that is not known.
        """
        ...


def backends_of(gateway: GatewayChoice) -> BackendsPort:
    """Return the backends of the chosen gateway."""
    far = gateway.remote()
    if far is None:
        return BackendsHere(load_for_stores(gateway.config))
    from ollama_gateway.cli.remote.client import AdminClient  # noqa: PLC0415 - for them alone

    return BackendsThere(AdminClient(far))


@attrs.define
class BackendsHere:
    """Those of the settings and the pause file of this machine.

    A file is changed that every gateway with the same data directory watches; no gateway needs to
    run. One that runs is asked for its figures, and whether the change is in force.
    """

    settings: Settings
    is_whole: bool = True

    @property
    def address(self) -> AdminAddress:
        """Where the running gateway is asked."""
        return AdminAddress.of_settings(self.settings.server)

    def documents(self) -> list[Document]:
        """Return those of the settings, with the figures of the running gateway if one answers."""
        paused = self._paused()
        statuses = {**self._from_settings(paused), **self._statuses()}
        urls = {b.name: b.url for b in sorted(self.settings.backends, key=lambda b: b.priority)}
        return [_document(name, url, statuses[name]) for name, url in urls.items()]

    def pending(self) -> Sequence[PendingChange]:
        """Ask the running gateway; nothing is pending if none answers."""
        return pending_or_none(self.address)

    def set_paused(self, name: str, *, is_paused: bool) -> Document:
        """Change the file, and wait until the running gateway follows it."""
        from ollama_gateway.control.actor import LOCAL  # noqa: PLC0415 - `list` needs less

        known = [backend.name for backend in self.settings.backends]
        with self._control() as control:
            change = control.pause if is_paused else control.resume
            paused = change(name, known, LOCAL)
        if is_paused and paused.issuperset(known):
            _warn_of_none_left()
        status = self._when_in_force(name, is_paused=is_paused)
        is_in_force = None if status is None else status.paused == is_paused
        if is_in_force is not False:
            directory = printable(str(self.settings.storage.data_dir))
            where = f"in every gateway whose data_dir is {directory}"
            say(f"takes effect within a second {where}", err=True)
        in_flight = status and status.in_flight
        return {
            "name": name,
            "paused": is_paused,
            "in_flight": in_flight,
            "in_force": is_in_force,
        }

    @contextmanager
    def _control(self) -> Iterator[PauseControl]:
        """Open the pause file of the settings; exit with code 1 if it cannot be changed."""
        from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - see there
        from ollama_gateway.control.errors import NoSuchThing  # noqa: PLC0415
        from ollama_gateway.control.pausing import PauseControl  # noqa: PLC0415

        try:
            with local_changes(self.settings, "gatewayctl backends") as recorder:
                yield PauseControl(PauseFile(self.settings.storage.data_dir), recorder)
        except PausesBroken as error:
            exit_with(1, self._fault(error))
        except NoSuchThing as error:
            exit_with(1, f"gatewayctl backends: {error}")

    def _paused(self) -> frozenset[str] | None:
        """Read the names in the pause file; if that fails, print why and return None."""
        try:
            return PauseFile(self.settings.storage.data_dir).read()
        except PausesBroken as error:
            say(self._fault(error), err=True)
            self.is_whole = False
            return None

    def _fault(self, error: PausesBroken) -> str:
        directory = printable(str(self.settings.storage.data_dir))
        return f"gatewayctl backends: {error} (in {directory})"

    def _from_settings(self, paused: frozenset[str] | None) -> dict[str, BackendStatus]:
        return {
            b.name: BackendStatus(b.priority, b.slots, None if paused is None else b.name in paused)
            for b in self.settings.backends
        }

    def _statuses(self) -> dict[str, BackendStatus]:
        """Ask the running gateway for its backends, by name; print missing ones on stderr."""
        try:
            found = ask_statuses(self.address)
        except NoAnswer as error:
            say(unanswered(self.address, error), err=True)
            return {}
        if missing := [b.name for b in self.settings.backends if b.name not in found]:
            names = ", ".join(map(printable, missing))
            say(f"the gateway on {self.address.shown} was started without: {names}", err=True)
        return found

    def _when_in_force(self, name: str, *, is_paused: bool) -> BackendStatus | None:
        """Wait until the change is in force, but not longer than its time; return the status."""
        deadline = time.monotonic() + IN_FORCE_SECONDS
        status = self._statuses().get(name)
        while status and status.paused != is_paused and time.monotonic() < deadline:
            time.sleep(_NAP)
            with suppress(NoAnswer):
                status = ask_statuses(self.address).get(name)
        return status


@attrs.define
class BackendsThere:
    """Those of a gateway that is asked by HTTP."""

    client: AdminClient
    is_whole: bool = True

    def documents(self) -> list[Document]:
        """Return those that the gateway has."""
        with self.client.ending("gatewayctl backends"):
            return [_document(name, url, one) for name, url, one in self._read()]

    def pending(self) -> Sequence[PendingChange]:
        """Ask the gateway; nothing is pending if it cannot tell."""
        return pending_or_none(self.client.address)

    def set_paused(self, name: str, *, is_paused: bool) -> Document:
        """Ask the gateway to do it; it answers once it is in force."""
        from ollama_gateway.cli.remote.client import path_of  # noqa: PLC0415 - see `backends_of`

        verb = "pause" if is_paused else "resume"
        with self.client.ending("gatewayctl backends"):
            answer = self.client.change("POST", path_of("backends", name, verb))
            _, status = _read(answer)
            if is_paused and all(one.paused for _, _, one in self._read()):
                _warn_of_none_left()
        return {
            "name": name,
            "paused": is_paused,
            "in_flight": status.in_flight,
            "in_force": status.paused == is_paused,
        }

    def _read(self) -> list[tuple[str, str, BackendStatus]]:
        """Return name, URL and status of each, in the order in which the gateway prefers them."""
        found = self.client.get("/status").get("backends")
        if not isinstance(found, list):
            raise NoAnswer("its answer is not one of the admin API")
        return [(*_named(one), _read(one)[1]) for one in found]


def _named(value: object) -> tuple[str, str]:
    match value:
        case {"name": str(name), "url": str(url)}:
            return name, url
    raise NoAnswer


def _warn_of_none_left() -> None:
    say("warning: all backends are paused now: the gateway refuses requests (503)", err=True)


def _document(name: str, url: str, status: BackendStatus) -> Document:
    return {"name": name, "url": url, "state": status.state, **attrs.asdict(status)}


def ask_statuses(address: AdminAddress) -> dict[str, BackendStatus]:
    """Ask the running gateway for its backends, by name.

    Raises:
        NoAnswer: no gateway answers, or the answer is not one of a gateway.

    """
    answer = ask(address, "/status.json")
    backends = answer.value.get("backends")
    if answer.status != HTTPStatus.OK or not isinstance(backends, list):
        raise unexpected(answer)
    return dict(map(_read, backends))


def _read(value: object) -> tuple[str, BackendStatus]:
    match value:
        case {
            "name": str(name),
            "priority": int(priority),
            "slots": int(slots),
            "paused": bool(paused),
            "up": bool(up),
            "in_flight": int(in_flight),
            "models": int(models),
            "loaded": int(loaded),
            "version": str() | None as version,
            **others,
        }:
            learned = _learned(others.get("by_model"))
            return name, BackendStatus(
                priority, slots, paused, up, in_flight, models, loaded, version, learned
            )
    raise NoAnswer


def _learned(by_model: object) -> int | None:
    """Return the largest learned capacity of a backend's models; each begins with 1."""
    if not isinstance(by_model, dict):
        return None
    found = [
        model.get("learned_capacity") for model in by_model.values() if isinstance(model, dict)
    ]
    return max((value for value in found if isinstance(value, int)), default=1)
