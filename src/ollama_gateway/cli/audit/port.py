"""The records that commands read: this machine's, or those of a gateway that is asked by HTTP.

The commands know nothing but `AuditPort`, so they are the same wherever the records are.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import typer

from ollama_gateway.cli.audit.sources import NAP, error_printer, following, newest, opened
from ollama_gateway.cli.audit.unknown import exit_if_unknown
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.remote.choice import GatewayChoice
from ollama_gateway.ledger.read.audit_log import AuditLog
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.read.records import StoredRecord, read
from ollama_gateway.ledger.read.usage import COUNTS, By, UsageSums, dimensions_of
from ollama_gateway.ledger.read.usage import usage as sums_of
from ollama_gateway.settings import Settings

if TYPE_CHECKING:
    from ollama_gateway.cli.remote.client import AdminClient

MAX_PAGE: Final = 1000


class AuditPort(Protocol):
    """Reads records; what cannot be read is reported and makes exit code 1 at the end."""

    def newest(self, wanted: Filter, limit: int | None) -> Iterator[StoredRecord]:
        """Yield the newest records that are there now, or all, in the order of their ends."""
        ...

    def running(self, wanted: Filter) -> Iterable[StoredRecord]:
        """Return those of requests that have not ended."""
        ...

    def following(self, wanted: Filter, stopped: threading.Event) -> Iterator[StoredRecord]:
        """Yield those that come after the ones that `newest` has yielded, until the event."""
        ...

    def find(self, record_id: str) -> StoredRecord | None:
        """Return one by its id, ended or not."""
        ...

    def usage(self, wanted: Filter, ways: Sequence[By]) -> Sequence[UsageSums]:
        """Return the sums of the wanted records."""
        ...

    def exit_if_unknown(self, wanted: Filter) -> None:
        """End the command if a name in a filter that matched nothing is known nowhere."""
        ...


@attrs.frozen
class AuditHere:
    """The records of this machine's journals, and of PostgreSQL if the settings name one."""

    log: AuditLog
    settings: Settings
    command: str

    def newest(self, wanted: Filter, limit: int | None) -> Iterator[StoredRecord]:
        """Yield the newest ones, or all."""
        return newest(self.log, wanted, limit)

    def running(self, wanted: Filter) -> Iterable[StoredRecord]:
        """Return those of requests that have not ended."""
        return filter(wanted.matches, self.log.running())

    def following(self, wanted: Filter, stopped: threading.Event) -> Iterator[StoredRecord]:
        """Yield those that come."""
        return following(self.log, wanted, stopped)

    def find(self, record_id: str) -> StoredRecord | None:
        """Return one by its id."""
        return self.log.find(record_id)

    def usage(self, wanted: Filter, ways: Sequence[By]) -> Sequence[UsageSums]:
        """Return the sums."""
        return sums_of(self.log.sums(wanted, dimensions_of(ways)), ways)

    def exit_if_unknown(self, wanted: Filter) -> None:
        """End the command for a mistyped filter."""
        exit_if_unknown(self.settings, wanted, self.command)


@attrs.define
class AuditThere:
    """The records that a gateway can read; each is checked as one from a file is."""

    client: AdminClient
    command: str
    has_faults: bool = False
    _position: str | None = None

    def newest(self, wanted: Filter, limit: int | None) -> Iterator[StoredRecord]:
        """Yield the newest ones, or all; more than a page of them are found by reading all."""
        if limit is None or limit > MAX_PAGE:
            records = self._read(wanted)
            yield from records if limit is None else deque(records, limit)
        elif limit > 0:
            page = self.client.get("/audit", _seconds(), **_query(wanted), limit=limit, newest=True)
            yield from self._records(page)

    def running(self, wanted: Filter) -> Iterable[StoredRecord]:  # noqa: ARG002 - as here
        """End the command: those are in journals of the gateway's machine alone."""
        from ollama_gateway.cli.lines import exit_with  # noqa: PLC0415 - seldom

        exit_with(2, f"gatewayctl {self.command}: --open reads files of the gateway's machine")

    def following(self, wanted: Filter, stopped: threading.Event) -> Iterator[StoredRecord]:
        """Ask again and again for those after the last page."""
        while not stopped.wait(NAP):
            yield from self._read(wanted)

    def find(self, record_id: str) -> StoredRecord | None:
        """Return one by its id."""
        from ollama_gateway.cli.remote.client import path_of  # noqa: PLC0415 - with the client
        from ollama_gateway.control.errors import NoSuchThing  # noqa: PLC0415 - as above

        try:
            return _checked(self.client.get(path_of("audit", record_id), _seconds()))
        except NoSuchThing:
            return None

    def usage(self, wanted: Filter, ways: Sequence[By]) -> Sequence[UsageSums]:
        """Return the sums that the gateway makes."""
        by = [way for way in ways if way not in {"day", "month"} or way == ways[0]]
        per = next((way for way in ways[1:] if way in {"day", "month"}), None)
        found: list[UsageSums] = []
        query = {**_query(wanted), "by": ",".join(by), "per": per}
        for page in self.client.pages("/usage", _seconds(), **query):
            self._report(page)
            found += [_sums(item, ways) for item in page["items"]]
        return found

    def exit_if_unknown(self, wanted: Filter) -> None:
        """Do nothing: the gateway refuses such a filter."""

    def _read(self, wanted: Filter) -> Iterator[StoredRecord]:
        """Yield all records after the position that was reached."""
        query = {**_query(wanted), "limit": MAX_PAGE}
        while True:
            page = self.client.get("/audit", _seconds(), **query, cursor=self._position)
            yield from self._records(page)
            if page.get("next") is None:
                return

    def _records(self, page: dict[str, Any]) -> Iterator[StoredRecord]:
        match page:
            case {"items": [*items], "position": str(position)}:
                self._report(page)
                yield from map(_checked, items)
                self._position = position
            case _:
                raise _no_page()

    def _report(self, page: dict[str, Any]) -> None:
        faults = page.get("faults")
        for fault in faults if isinstance(faults, list) else ():
            self.has_faults = True
            error_printer(self.command)(str(fault))


def _seconds() -> float:
    from ollama_gateway.cli.remote.client import READ_SECONDS  # noqa: PLC0415 - with the client

    return READ_SECONDS


def _query(wanted: Filter) -> dict[str, Any]:
    times = wanted.time_range
    return {
        "since": times.since and times.since.isoformat(),
        "until": times.until and times.until.isoformat(),
        "key": wanted.key,
        "model": wanted.model,
        "backend": wanted.backend,
        "outcome": wanted.outcome,
        "reason": wanted.reason,
        "end_user": wanted.end_user,
        "endpoint": wanted.endpoint,
    }


def _checked(document: object) -> StoredRecord:
    try:
        return read("", 0, json.dumps(document).encode())
    except (ValueError, TypeError, KeyError):
        raise _no_page() from None


def _sums(document: dict[str, Any], ways: Sequence[By]) -> UsageSums:
    """Read the sums of a group; raises NoAnswer."""
    names = ["key_id" if way == "key" else way.replace("-", "_") for way in ways]
    labels = ["key_name" if name == "key_id" else name for name in names]
    texts = [document.get(name) for name in (*names, *labels)]
    counts = {name: document.get(name) or 0 for name in COUNTS}
    if any(type(one) is not int for one in counts.values()):
        raise _no_page()
    if any(one is not None and not isinstance(one, str) for one in texts):
        raise _no_page()
    return UsageSums(tuple(texts[: len(ways)]), tuple(texts[len(ways) :]), **counts)


def _no_page() -> Exception:
    from ollama_gateway.cli.admin import NoAnswer  # noqa: PLC0415 - with the client

    return NoAnswer("its answer is not one of the admin API")


@contextmanager
def open_audit(gateway: GatewayChoice, command: str) -> Iterator[AuditPort]:
    """Yield the records of the chosen gateway; end the command if none can be read."""
    far = gateway.remote()
    if far is None:
        settings = load_for_stores(gateway.config)
        with opened(settings, command) as log:
            yield AuditHere(log, settings, command)
        return
    from ollama_gateway.cli.remote.client import AdminClient  # noqa: PLC0415 - for them alone

    there = AuditThere(AdminClient(far), command)
    with there.client.ending(f"gatewayctl {command}"):
        yield there
    if there.has_faults:
        raise typer.Exit(1)
