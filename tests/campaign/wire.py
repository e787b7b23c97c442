"""Two network namespaces and a cable between them, which can lose what goes over it.

A socket stays in the namespace in which it was made, so one process can be on both ends. Needs root
and iproute2.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

NEAR: Final = "10.213.71.1"
FAR: Final = "10.213.71.2"
NEAR_LINK: Final = "02:00:00:00:00:01"
FAR_LINK: Final = "02:00:00:00:00:02"
MINE: Final = Path("/proc/thread-self/ns/net")
CLONE_NEWNET: Final = 0x4000_0000


def ip(*arguments: str) -> None:
    """Run iproute2's program."""
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607
    except FileNotFoundError:
        raise AssertionError("this test needs ip: install iproute2") from None
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"ip {arguments}: {error.stderr!r} (this test needs root)") from None


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@attrs.frozen
class Wire:
    """The two ends, by the names of their namespaces."""

    near: str
    far: str

    @contextmanager
    def at(self, end: str) -> Iterator[None]:
        """Have this thread make its sockets there."""
        back = os.open(MINE, os.O_RDONLY)
        _enter(Path("/run/netns") / end)
        try:
            yield
        finally:
            _enter(Path(f"/proc/self/fd/{back}"))
            os.close(back)

    def lose(self) -> None:
        """Lose every packet to and from the far end, without an ICMP error."""
        ip("-n", self.far, "addr", "del", f"{FAR}/24", "dev", "far0")


@contextmanager
def wire() -> Iterator[Wire]:
    """Lay one for the length of the block."""
    made = Wire(f"gw-near-{os.getpid()}", f"gw-far-{os.getpid()}")
    try:
        ip("netns", "add", made.near)
        ip("netns", "add", made.far)
        ends = ("near0", "address", NEAR_LINK, "netns", made.near)
        peer = ("peer", "name", "far0", "address", FAR_LINK, "netns", made.far)
        ip("link", "add", *ends, "type", "veth", *peer)
        for end, device, address, other, link in (
            (made.near, "near0", NEAR, FAR, FAR_LINK),
            (made.far, "far0", FAR, NEAR, NEAR_LINK),
        ):
            ip("-n", end, "link", "set", "lo", "up")
            ip("-n", end, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", end, "link", "set", device, "up")
            # A fixed neighbour: an ARP request without an answer would be an error at once.
            ip(
                "-n",
                end,
                "neigh",
                "replace",
                other,
                "lladdr",
                link,
                "nud",
                "permanent",
                "dev",
                device,
            )
        yield made
    finally:
        for end in (made.near, made.far):
            with suppress(AssertionError):
                ip("netns", "del", end)
