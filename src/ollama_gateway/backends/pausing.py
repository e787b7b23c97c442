"""Which backends are paused: a file of names, changed by commands and watched by gateways.

`paused.json` in `storage.data_dir` is a JSON list, replaced whole, so that a reader sees the old
one or the new one. Who changes it holds a lock on `paused.lock` from before the reading to after
the replacing: two commands at once cannot lose each other's word. The system takes the lock (flock)
back however a process ends; the lock file stays for good.

A gateway looks at the file in a thread, since a file system may hang. The rule: whatever is in the
file's place, what was known last stays in force, and the log says so once.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.log import get_logger
from ollama_gateway.storage.private_file import NotAFile, make_directory

PAUSED_FILE: Final = "paused.json"
LOCK_NAME: Final = "paused.lock"
NEW_NAME: Final = "paused.new"
"""What becomes `paused.json`; a command that was killed may leave it, which harms nobody."""
MAX_FILE_BYTES: Final = 2**20
"""Bytes that are read: some ten thousand names."""
LOCK_SECONDS: Final = 5.0
"""How long a command waits for the others."""
TICK: Final = 0.5
"""Seconds between two looks: a change is in force within a second."""
PATIENCE: Final = 5.0
"""Seconds for one look."""
_NAP: Final = 0.005

log = get_logger("pauses")


class PausesBroken(Exception):
    """The file cannot be read or changed; one line that begins with the name of the file at fault,
    without its directory."""


@attrs.frozen
class PauseFile:
    """The names in a data directory; blocking calls, each raises PausesBroken."""

    directory: Path

    def read(self) -> frozenset[str]:
        """The names; none where there is no file."""
        try:
            content = _content(self.directory / PAUSED_FILE)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise _broken(PAUSED_FILE, error) from None
        return _names(content)

    def add(self, name: str) -> frozenset[str]:
        """Add a name that may be there already; all names that are there now."""
        return self._change(lambda names: names | {name})

    def remove(self, name: str) -> frozenset[str]:
        """Remove a name that need not be there; all names that are there now."""
        return self._change(lambda names: names - {name})

    def _change(self, change: Callable[[frozenset[str]], frozenset[str]]) -> frozenset[str]:
        with _locked(self.directory):
            before = self.read()
            after = change(before)
            if after != before:
                _replace(self.directory, after)
        return after


def _content(path: Path) -> bytes:
    # O_NONBLOCK: a pipe that nobody writes to would hold up the open itself
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
        with os.fdopen(_opened(new, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(json.dumps(sorted(names)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the name without the content
        new.replace(directory / PAUSED_FILE)
    except OSError as error:
        raise _broken(NEW_NAME, error) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Change the file alone for the length of the block, in a directory that exists."""
    try:
        make_directory(directory)
        descriptor = _opened(directory / LOCK_NAME, os.O_RDWR)
    except OSError as error:
        raise _broken(LOCK_NAME, error) from None
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PausesBroken(f"{LOCK_NAME}: another command holds it") from None
            time.sleep(_NAP)
        except OSError as error:
            raise _broken(LOCK_NAME, error) from None


def _opened(path: Path, how: int) -> int:
    """Open a private file, made where it is missing, for whoever the directory belongs to."""
    flags = how | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if os.geteuid() == 0:  # a gateway that runs as somebody else has to read what root wrote
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _broken(name: str, error: OSError) -> PausesBroken:
    return PausesBroken(f"{name}: {error.strerror or 'cannot be used'}")


@attrs.define(eq=False)
class Pauses:
    """Keeps the backends of this process paused as the file says."""

    read: Callable[[], frozenset[str]]
    """The names; a blocking call that raises PausesBroken."""
    backends: Backends
    _known: frozenset[str] | None = attrs.field(default=None, init=False)
    _fault: str | None = attrs.field(default=None, init=False)
    # One at a time: looks that hang must not use up the threads that everybody shares.
    _thread: anyio.CapacityLimiter = attrs.field(
        factory=lambda: anyio.CapacityLimiter(1), init=False
    )

    async def look(self) -> None:
        """Do as the file says; where it cannot be read in time, what was known stays in force."""
        try:
            with anyio.fail_after(PATIENCE):
                names = await anyio.to_thread.run_sync(
                    self.read, abandon_on_cancel=True, limiter=self._thread
                )
        except PausesBroken as error:
            self._failed(str(error))
        except TimeoutError:
            self._failed(f"{PAUSED_FILE}: the file system does not answer")
        else:
            self._found(names)

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await anyio.sleep(TICK)
            await self.look()

    def _found(self, names: frozenset[str]) -> None:
        if self._fault is not None:
            log.info("pauses can be read again")
        self._fault = None
        if names != self._known:
            self._known = names
            self.backends.pause(names)

    def _failed(self, fault: str) -> None:
        if fault != self._fault:
            log.error("pauses cannot be read; what was known stays in force", reason=fault)
        self._fault = fault
