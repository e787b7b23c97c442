"""Broken contents of the file of paused backends, and the message for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def a_directory(path: Path) -> None:
    """Put a directory in place of the file."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Put a pipe without a writer in place of the file."""
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    """Put a link to itself in place of the file; not even root can read it."""
    path.symlink_to(path)


def a_device(path: Path) -> None:
    """Put a link to an endless device in place of the file."""
    path.symlink_to("/dev/zero")


def a_gigabyte(path: Path) -> None:
    """Put a very long file in its place."""
    with path.open("wb") as file:
        file.truncate(2**30)


def of(content: bytes) -> Callable[[Path], None]:
    """Put a file with this content in its place."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a directory": (a_directory, "not a file"),
    "a pipe": (a_pipe, "not a file"),
    "a device": (a_device, "not a file"),
    "unreadable": (a_loop, "Too many levels of symbolic links"),
    "a gigabyte": (a_gigabyte, "larger than 1 MiB"),
    "nothing": (of(b""), "not JSON"),
    "garbage": (of(b"\x00\xff\xfe"), "not JSON"),
    "UTF-16": (of('["a"]'.encode("utf-16")), "not JSON"),
    "half a list": (of(b'["a",'), "not JSON"),
    "two lists": (of(b'["a"]["b"]'), "not JSON"),
    "a deep list": (of(b"[" * 500_000), "not JSON"),
    "a long number": (of(b"9" * 500_000), "not JSON"),
    "null": (of(b"null"), "not a list of names"),
    "a name": (of(b'"a"'), "not a list of names"),
    "a table": (of(b'{"a":true}'), "not a list of names"),
    "numbers": (of(b"[1]"), "not a list of names"),
    "lists": (of(b'["a",["b"]]'), "not a list of names"),
}
