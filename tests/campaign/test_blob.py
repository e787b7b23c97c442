"""A blob far larger than memory passes through a gateway's process that does not grow."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.campaign.audit_log import MEBIBYTE
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, Gateway, fleet

PIECE: Final = bytes(range(256)) * 4096
"""One MiB, of which the blob is made."""
ROOM: Final = 16
"""MiB that the process may grow by: the bytes on their way, and those that Python keeps."""
FULL_TIME: Final = 600.0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One gateway before one backend."""
    with fleet(tmp_path_factory.mktemp("data"), {"a": ("--model", "m:1")}) as opened:
        yield opened


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_blob_passes_in_constant_memory(
    started: Fleet, sizes: Sizes, note: Note, *, is_chunked: bool
) -> None:
    """The peak of the gateway's memory does not follow the blob's size; every byte arrives."""
    groups = ("--endpoints", "manage")
    key = started.ctl_json("keys", "create", f"ops-{is_chunked}", *groups)["key"]
    gateway = started.gateways[0]
    # The two blobs differ, as the second of the same would not be read.
    assert upload(started, key, 2, b"first", is_chunked=is_chunked) == 201
    before = peak(gateway)
    began = time.monotonic()
    assert upload(started, key, sizes.blob, b"then", is_chunked=is_chunked) == 201
    seconds = time.monotonic() - began
    grown = (peak(gateway) - before) / MEBIBYTE

    note(
        f"{sizes.blob} MiB in {seconds:.1f} s, {sizes.blob / seconds:.0f} MiB/s,"
        f" peak {peak(gateway) / MEBIBYTE:.1f} MiB, grown by {grown:.1f} MiB"
    )
    assert grown < ROOM


def upload(started: Fleet, key: str, mebibytes: int, end: bytes, *, is_chunked: bool) -> int:
    """Send a blob of so many MiB; the status, which is 201 only where the digest is right."""
    end += b" in chunks" if is_chunked else b""
    digest = hashlib.sha256()
    for piece in pieces(mebibytes, end):
        digest.update(piece)
    headers = {"Authorization": f"Bearer {key}"}
    if not is_chunked:
        headers["Content-Length"] = str(mebibytes * MEBIBYTE + len(end))
    path, body = f"/api/blobs/sha256:{digest.hexdigest()}", pieces(mebibytes, end)
    with closing(http.client.HTTPConnection("127.0.0.1", started.port, FULL_TIME)) as connection:
        connection.request("POST", path, body, headers, encode_chunked=is_chunked)
        return connection.getresponse().status


def pieces(mebibytes: int, end: bytes) -> Iterator[bytes]:
    """The parts of a blob."""
    for _ in range(mebibytes):
        yield PIECE
    yield end


def peak(gateway: Gateway) -> int:
    """The most bytes of memory that its process has had."""
    status = Path(f"/proc/{gateway.process.popen.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
