"""Paused backends: a file of names, changed by commands and watched by gateways.

`paused.json` in `storage.data_dir` is a JSON list. It is replaced whole, so a reader sees either
the old list or the new one. A command holds a lock on `paused.lock` from before it reads until
after it has replaced the file: concurrent commands do not lose each other's changes.

A gateway reads the file in a thread, since a file system may hang. The rule: if the file cannot be
read, the last known names stay in force, and the log says so once.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import attrs

from ollama_gateway.log import get_logger
from ollama_gateway.storage.file_lock import locked, opened
from ollama_gateway.storage.private_file import NotAFile, make_directory

if TYPE_CHECKING:
    from ollama_gateway.backends.backends import Backends

PAUSED_FILE: Final = "paused.json"
LOCK_NAME: Final = "paused.lock"
NEW_NAME: Final = "paused.new"
"""The next `paused.json`; a killed command may leave it behind, which does no harm."""
MAX_FILE_BYTES: Final = 2**20
"""The most bytes of the file: some ten thousand names."""
LOCK_SECONDS: Final = 5.0
"""Seconds that a command waits for the others."""
POLL_SECONDS: Final = 0.5
"""Seconds between two reads: a change takes effect within a second."""
READ_SECONDS: Final = 5.0
"""Seconds that one read may take."""

log = get_logger("pauses")


class PausesBroken(Exception):
    """The file cannot be read or changed; one line, beginning with the name of the faulty file."""


@attrs.frozen
class PauseFile:
    """The paused names in a data directory; every method blocks and raises PausesBroken."""

    directory: Path

    def read(self) -> frozenset[str]:
        """Return the names, none if there is no file."""
        try:
            content = _content(self.directory / PAUSED_FILE)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise _broken(PAUSED_FILE, error) from None
        return _names(content)

    def add(self, name: str) -> frozenset[str]:
        """Add a name if missing; return all names."""
        return self._change(lambda names: names | {name})

    def remove(self, name: str) -> frozenset[str]:
        """Remove a name if present; return all names."""
        return self._change(lambda names: names - {name})

    def _change(self, change: Callable[[frozenset[str]], frozenset[str]]) -> frozenset[str]:
        with _locked(self.directory):
            before = self.read()
            after = change(before)
            if after != before:
                _replace(self.directory, after)
        return after


def _content(path: Path) -> bytes:
    # O_NONBLOCK: opening a pipe without a writer would hang
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(None, "not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _names(content: bytes) -> frozenset[str]:
    if len(content) > MAX_FILE_BYTES:
        raise PausesBroken(f"{PAUSED_FILE}: larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        names = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise PausesBroken(f"{PAUSED_FILE}: not JSON") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PausesBroken(f"{PAUSED_FILE}: not a list of names")
    return frozenset(names)


def _replace(directory: Path, names: frozenset[str]) -> None:
    new = directory / NEW_NAME
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(opened(new, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(json.dumps(sorted(names)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # or a power cut may keep the name and lose the content
        new.replace(directory / PAUSED_FILE)
    except OSError as error:
        raise _broken(NEW_NAME, error) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the file against other commands for the length of the block; create the directory."""
    with ExitStack() as lock:
        try:
            make_directory(directory)
            path = directory / LOCK_NAME
            is_ours = lock.enter_context(locked(path, patience=LOCK_SECONDS))
        except OSError as error:
            raise _broken(LOCK_NAME, error) from None
        if not is_ours:
            raise PausesBroken(f"{LOCK_NAME}: another command holds it")
        yield


def _broken(name: str, error: OSError) -> PausesBroken:
    return PausesBroken(f"{name}: {error.strerror or 'cannot be used'}")


@attrs.define(eq=False)
class Pauses:
    """Pauses the backends of this process as the file says."""

    read: Callable[[], frozenset[str]]
    """Returns the names; may block, raises PausesBroken."""
    backends: Backends
    _known: frozenset[str] | None = attrs.field(default=None, init=False)
    _fault: str | None = attrs.field(default=None, init=False)
    _changes: int = attrs.field(default=0, init=False)
    """How often this process changed the file itself."""
    # One at a time: reads that hang must not use up the shared worker threads.
    _thread: anyio.CapacityLimiter = attrs.field(
        factory=lambda: anyio.CapacityLimiter(1), init=False
    )

    async def look(self) -> None:
        """Apply the file; if it cannot be read in time, keep the last known names."""
        changes = self._changes
        try:
            with anyio.fail_after(READ_SECONDS):
                names = await anyio.to_thread.run_sync(
                    self.read, abandon_on_cancel=True, limiter=self._thread
                )
        except PausesBroken as error:
            self._failed(str(error))
        except TimeoutError:
            self._failed(f"{PAUSED_FILE}: the file system does not answer")
        else:
            if changes == self._changes:  # else the file may have been read before its change
                self._found(names)

    async def watch(self) -> None:
        """Apply the file again and again, until cancelled."""
        while True:
            await anyio.sleep(POLL_SECONDS)
            await self.look()

    def changed(self, names: frozenset[str]) -> None:
        """Apply the names that this process has written into the file."""
        self._changes += 1
        self._found(names)

    def _found(self, names: frozenset[str]) -> None:
        if self._fault is not None:
            log.info("pauses can be read again")
        self._fault = None
        if names != self._known:
            self._known = names
            self.backends.pause(names)

    def _failed(self, fault: str) -> None:
        if fault != self._fault:
            log.error("pauses cannot be read; the last known ones stay in force", reason=fault)
        self._fault = fault
