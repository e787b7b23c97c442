"""The token by which commands on the gateway's own machine may change something.

It stands in a file of the data directory that only the gateway's user, and root, can read. Each
gateway writes a new one when it starts, and reads the file again when it has changed: so several
gateways with one data directory agree, and an old copy is soon worth nothing.
"""

from __future__ import annotations

import hmac
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import attrs

from ollama_gateway.certificates import Stamp, stamp_of
from ollama_gateway.keys.admin_tokens import new_token_text
from ollama_gateway.keys.key import StoreError, digest_of
from ollama_gateway.log import get_logger
from ollama_gateway.printable import printable
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.storage.private_file import make_directory
from ollama_gateway.storage.private_text import NotPrivate, read_private, write_private

LOOK_SECONDS: Final = 1.0
"""Seconds for a look at the file; after that, the token that was read last counts."""

log = get_logger("admin")


@attrs.define(eq=False)
class LocalToken:
    """The token in the file at `path`, as this gateway knows it."""

    path: Path
    runner: Runner = in_thread
    _digest: str = attrs.field(default="", init=False, repr=False)
    _stamp: Stamp | None = attrs.field(default=None, init=False)
    _is_looking: bool = attrs.field(default=False, init=False)

    def renew(self) -> None:
        """Write a new token; blocks.

        Raises:
            StoreError: the file cannot be written, or is not as the gateway makes it.

        """
        shown = printable(str(self.path))
        try:
            make_directory(self.path.parent)
            with suppress(FileNotFoundError):
                read_private(self.path, {os.geteuid()})
            write_private(self.path, new_token_text())
            self._read()
        except NotPrivate as error:
            raise StoreError(f"{shown}: {error}: remove it") from None
        except OSError as error:
            raise StoreError(f"{shown}: {error.strerror or 'cannot be used'}") from error

    async def is_text(self, text: str) -> bool:
        """Whether a text is the local token."""
        if not self._is_looking:  # a thread that hangs on the disk is one thread
            with anyio.move_on_after(LOOK_SECONDS):
                await self.runner(self._look)
        return bool(self._digest) and hmac.compare_digest(self._digest, digest_of(text))

    def _look(self) -> None:
        self._is_looking = True
        try:
            if stamp_of(self.path) != self._stamp:
                self._read()
        except (NotPrivate, OSError) as error:
            self._digest, self._stamp = "", stamp_of(self.path)
            why = str(error) if isinstance(error, NotPrivate) else error.strerror
            log.warning("local admin token not used", file=self.path.name, reason=why)
        finally:
            self._is_looking = False

    def _read(self) -> None:
        stamp = stamp_of(self.path)
        text = read_private(self.path, {os.geteuid()})
        self._digest, self._stamp = digest_of(text), stamp
