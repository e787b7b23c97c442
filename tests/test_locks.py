"""The locks of the image's packages, as far as they can be judged without an index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / ".locks"
PIN = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[\w.+!]+)(?: ; (?P<marker>[^\\\n]+?))?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n(?:    #.*\n)*"
)
"""A package as pip-compile writes it: one version, and the hashes of its files."""


def pins(name: str) -> dict[str, str]:
    """Return the versions of a lock, by name; every line must belong to one or be a comment."""
    text = (LOCKS / name).read_text()
    assert re.sub(r"^#.*\n", "", PIN.sub("", text), flags=re.MULTILINE).strip() == ""
    return {canonicalize_name(found["name"]): found["version"] for found in PIN.finditer(text)}


@pytest.mark.parametrize("name", ["gateway.txt", "build.txt"])
def test_a_lock_has_only_versions_with_hashes(name: str) -> None:
    """It names no index and no other option: where packages come from is the machine's setting."""
    assert len(pins(name)) > 30


def test_the_lock_has_what_the_package_requires() -> None:
    """After a change of the dependencies it is renewed: `tox -e lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins("gateway.txt")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{text}: {version}"


def test_the_lock_has_what_the_build_requires() -> None:
    """The wheel in the image is built with packages whose hashes are known as well."""
    text = (LOCKS / "build.in").read_text()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = pins("build.txt")
    wanted = [line for line in text.splitlines() if not line.startswith("#")]
    assert set(build) <= set(wanted)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])
