"""The content of the image."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.podman.conftest import Note
from tests.podman.podman import ROOT, PodmanFailed, podman
from tests.podman.prerequisites import have_image

LARGEST = 150
"""The largest size in MB, without the base image."""


def config(image: str) -> dict[str, Any]:
    """Return the configuration of the image."""
    found: dict[str, Any] = json.loads(podman("image", "inspect", image))[0]
    return found


def sh(image: str, command: str) -> str:
    """Return the output of a shell in the image."""
    return podman("run", "--rm", "--entrypoint", "sh", image, "-c", command)


def test_it_is_configured_for_podman(image: str) -> None:
    """The image has a numeric user, port, volume, health check, signal and entry point."""
    whole = config(image)
    found = whole["Config"]
    assert found["User"] == "10001:0"
    assert list(found["ExposedPorts"]) == ["11435/tcp"]
    assert list(found["Volumes"]) == ["/var/lib/ollama-gateway"]
    assert whole["Healthcheck"]["Test"] == ["CMD", "gatewayctl", "health"]
    assert found["StopSignal"] in ("SIGTERM", "15")
    assert (found["Entrypoint"], found["Cmd"]) == (["gatewayctl"], ["serve"])


def test_it_is_labelled_with_the_packages_version(image: str) -> None:
    """The OCI labels have the version of the installed package and of this checkout."""
    labels = config(image)["Labels"]
    assert labels["org.opencontainers.image.title"] == "Ollama Gateway"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    inside = podman(
        *("run", "--rm", "--entrypoint", "python", image, "-c"),
        "import importlib.metadata as m; print(m.version('ollama-gateway'))",
    )
    assert labels["org.opencontainers.image.version"] == inside == version("ollama-gateway")


def test_a_wrong_version_does_not_build(image: str) -> None:
    """The build fails if label and package have different versions."""
    with pytest.raises(PodmanFailed, match="exit status 1"):
        have_image(ROOT, "--build-arg", "VERSION=9.9.9", tag="localhost/ollama-gateway-tests")


def test_it_says_what_it_is_made_of(image: str) -> None:
    """The SBOM (CycloneDX) and the list of licenses have exactly the installed packages."""
    script = (
        "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    )
    installed = set(map(canonicalize_name, sh(image, f'python -c "{script}"').split()))
    sbom = json.loads(sh(image, "cat /opt/gateway/share/ollama-gateway/sbom.cdx.json"))
    named = [sbom["metadata"]["component"], *sbom["components"]]
    licenses = sh(image, "cat /opt/gateway/share/ollama-gateway/licenses.txt").splitlines()

    assert sbom["bomFormat"] == "CycloneDX"
    assert {canonicalize_name(component["name"]) for component in named} == installed
    assert installed <= set(map(canonicalize_name, licenses))


def test_nothing_is_left_of_the_build(image: str) -> None:
    """The image has no compiler, no pip in the environment, no cache and no source."""
    left = "/root/.cache /build /var/lib/ollama-gateway/.cache"
    assert sh(image, "command -v cc gcc g++ make || echo none") == "none"
    assert sh(image, "ls /opt/gateway/bin | grep -c pip || true") == "0"
    assert sh(image, f"ls -d {left} 2>/dev/null || echo none") == "none"


def test_it_is_small(image: str, note: Note) -> None:
    """The image adds less than 150 MB to its base."""
    whole = int(podman("image", "inspect", image, "--format", "{{.Size}}"))
    added = int(sh(image, "du -s --block-size=1 /opt/gateway").split()[0])
    note(f"beside the base {added / 1e6:.0f} MB, in all {whole / 1e6:.0f} MB")
    assert added < LARGEST * 1_000_000
