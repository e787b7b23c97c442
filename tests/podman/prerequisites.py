"""The prerequisites of these tests, and the remedy for each that is missing.

Variables (see the table in docs/operate/podman.md) name replacements for use without a registry.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.podman.podman import IMAGE, NETWORK, PodmanFailed, podman, succeeds

BASE: Final = os.environ.get("PODMAN_TESTS_BASE")
"""A base image for the gateway, instead of the Containerfile's."""
DEBIAN: Final = os.environ.get("PODMAN_TESTS_DEBIAN")
"""An image of Debian, from which replacements for Redis and PostgreSQL are built."""
BUILD: Final = shlex.split(os.environ.get("PODMAN_TESTS_BUILD", ""))
"""Further arguments of `podman build`, such as mounts of pip's settings."""
GENERATORS: Final = tuple(
    Path(path)
    for path in (
        os.environ.get("PODMAN_TESTS_GENERATOR") or "/usr/libexec/podman/quadlet",
        "/usr/lib/systemd/system-generators/podman-system-generator",
    )
)
SYSTEMD: Final = os.environ.get("PODMAN_TESTS_SYSTEMD", "")
"""A program that runs units under its own systemd: `PROGRAM UNITDIR IMAGE SERVICE COMMAND`."""
REDIS: Final = "docker.io/library/redis:7"
POSTGRES: Final = "docker.io/library/postgres:16"
OURS: Final = {
    "container": ("gateway", "ollama-gateway-gateway"),
    "pod": ("ollama-gateway",),
    "volume": tuple(f"ollama-gateway-{name}" for name in ("data", "redis", "postgres")),
    "secret": ("ollama-gateway",),
    "network": (NETWORK,),
}
"""What the tests make under the names in docs/operate/podman, and remove again: so it must not be
there before."""


def missing() -> Iterator[str]:
    """Return a line for each thing that is missing or in the way."""
    if os.geteuid() != 0:
        yield "root: run it as root"
    if shutil.which("podman") is None:
        yield "podman 4.3 or later, with netavark and catatonit"
        return
    for kind, names in OURS.items():
        for name in names:
            if succeeds(kind, "inspect", name):
                yield f"the name {name!r}: there is such a {kind} already, and the tests make one"


def generator() -> Path:
    """Return the path of Quadlet; raises LookupError with a remedy if there is none."""
    for path in GENERATORS:
        if os.access(path, os.X_OK):
            return path
    raise LookupError("no Quadlet (podman 5): PODMAN_TESTS_GENERATOR names the program")


def systemd() -> str:
    """Return the program that runs units; raises LookupError with a remedy if there is none."""
    if shutil.which(SYSTEMD) is None:
        raise LookupError("no systemd: PODMAN_TESTS_SYSTEMD names a program that runs units")
    return SYSTEMD


def build(context: Path, *arguments: str) -> None:
    """Run `podman build` with the format that has health checks."""
    podman("build", "--format", "docker", *BUILD, *arguments, str(context))


def image_named(tag: str) -> str | None:
    """Return the id of an image; None if there is none of that name."""
    named = succeeds("image", "exists", tag)
    return podman("image", "inspect", tag, "--format", "{{.Id}}") if named else None


def put_back(tag: str, earlier: str | None) -> None:
    """Give the name of an image back to the earlier one; remove the image that the tests made.

    It stays where a container uses it that is not of the tests.
    """
    if image_named(tag) == earlier:
        return
    succeeds("rmi", tag)
    if earlier is not None:
        podman("tag", earlier, tag)


def have_image(context: Path, *arguments: str, tag: str = IMAGE) -> None:
    """Build the gateway's image."""
    base = ["--build-arg", f"BASE={BASE}"] if BASE else []
    try:
        build(context, *base, *arguments, "--tag", tag)
    except PodmanFailed as error:
        raise PodmanFailed(f"{error}\nWithout a registry: PODMAN_TESTS_BASE") from None


def have_peers(folder: Path, *names: str) -> list[str]:
    """Pull or build the images of Redis and PostgreSQL; return the names of built ones."""
    made = []
    for name in names:
        if succeeds("image", "exists", name):
            continue
        if DEBIAN:
            kind = name.rpartition("/")[2].partition(":")[0]
            options = ("--file", str(folder / f"{kind}.Containerfile"), "--tag", name)
            build(folder, "--build-arg", f"BASE={DEBIAN}", *options)
            made.append(name)
        else:
            podman("pull", name)
    return made


def have_network() -> None:
    """Create a network in which containers reach each other by name."""
    podman("network", "create", NETWORK)
