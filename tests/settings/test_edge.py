"""Settings of origins, proxies, networks and certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from ollama_gateway.wire.networks import network_of
from tests.settings.conftest import Load, Problems

KEY = "imported-key-of-the-editors"
BACKEND = "[[backends]]\nname = 'a'\nurl = 'https://a'\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates with their keys, and a file that is neither."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    for name in ("one", "two"):
        made = authority.issue_cert(name)
        made.private_key_pem.write_to_path(directory / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
    (directory / "junk").write_text("junk")
    return directory


def server(files: Path, cert: str, key: str) -> str:
    """Return settings with a certificate."""
    return f"[server]\ntls_cert = '{files / cert}'\ntls_key = '{files / key}'\n"


def auth(networks: str, key: str = KEY) -> str:
    """Return settings that let in clients without a key."""
    return f"[auth]\nanonymous_networks = {networks}\nanonymous_key = '{key}'\n"


def test_networks_and_origins_are_read(loaded: Load) -> None:
    """Networks, origins and single addresses are read into their types."""
    text = "[server]\ntrusted_proxies = ['10.0.0.1', 'fd00::/8']\nallowed_origins = ['APP://*']\n"
    settings = loaded(text + auth("['10.0.0.0/8']")).settings

    assert settings.server.trusted_proxies == (network_of("10.0.0.1/32"), network_of("fd00::/8"))
    assert settings.server.allowed_origins == ("app://*",)
    assert settings.auth.anonymous_networks == (network_of("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[server]\ntrusted_proxies = ['10.0.0.0/8', 'x']",
            'server.trusted_proxies: "x" is not a network like',
        ),
        (auth("['10.0.0.5/8']"), 'auth.anonymous_networks: "10.0.0.5/8" has bits set'),
        (auth("'10.0.0.0/8'"), "auth.anonymous_networks: "),
        ("[server]\nallowed_origins = ['https://a/']", 'server.allowed_origins: "https://a/" is'),
        ("[auth]\nanonymous_networks = ['10.0.0.0/8']", "auth.anonymous_key: is missing"),
        (f"[auth]\nanonymous_key = '{KEY}'", "auth.anonymous_networks: is missing"),
        (auth("['10.0.0.0/8']", "short"), "auth.anonymous_key: is not an API key"),
        (
            "[server]\nallowed_origins = ['*']\n" + auth("['10.0.0.0/8']"),
            "auth.anonymous_networks: cannot be set while server.allowed_origins",
        ),
        (
            "[server]\nallowed_origins = ['https://*']\n" + auth("['10.0.0.0/8']"),
            "auth.anonymous_networks: cannot be set while server.allowed_origins",
        ),
    ],
)
def test_what_is_wrong_is_named(problems: Problems, text: str, problem: str) -> None:
    """The error begins with the path and does not show the key."""
    found = problems(text)

    assert any(line.startswith(problem) for line in found), found
    assert not [line for line in found if KEY in line]


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_everyone_is_warned_about(loaded: Load, network: str) -> None:
    """A network of all addresses is allowed, with a warning."""
    warnings = loaded(auth(f"['10.0.0.0/8', '{network}']")).warnings

    assert warnings == ("auth.anonymous_networks: no client on any network needs a key",)
    assert loaded(auth("['10.1.0.0/16']")).warnings == ()


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.0.2.0/24", "10.0.2.100/32"])
def test_the_network_of_rootless_containers_is_warned_about(loaded: Load, network: str) -> None:
    """Their port forwarding (slirp4netns) gives every client an address in 10.0.2.0/24."""
    (warning,) = loaded(auth(f"['fd00::/8', '{network}']")).warnings

    assert warning.startswith("auth.anonymous_networks: covers 10.0.2.0/24: if a rootless")


def test_an_unchecked_backend_is_warned_about(loaded: Load) -> None:
    """`verify = false` causes a warning."""
    expected = "backends[0].verify: is false: any server that answers is trusted"

    assert loaded(BACKEND + "verify = false\n").warnings == (expected,)
    assert loaded(BACKEND).warnings == ()


def test_a_certificate_and_its_key_are_taken(loaded: Load, files: Path) -> None:
    """The paths are used as they are given."""
    settings = loaded(server(files, "one.pem", "one.key")).settings

    assert settings.server.tls_cert == files / "one.pem"


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("one.pem", "two.key", "server.tls_cert: with tls_key: the key does not belong"),
        ("junk", "one.key", "server.tls_cert: with tls_key: a certificate and its key are needed"),
        ("one.pem", "junk", "server.tls_cert: with tls_key: a certificate and its key are needed"),
        ("none", "one.key", "server.tls_cert: the file "),
        ("one.pem", "none", "server.tls_key: the file "),
    ],
)
def test_files_that_do_not_go_together(
    problems: Problems, files: Path, cert: str, key: str, problem: str
) -> None:
    """A pair that does not fit is one problem."""
    found = problems(server(files, cert, key))

    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ca_file": "junk"}, "backends[0].ca_file: certificates are needed, in PEM"),
        (
            {"client_cert": "one.pem", "client_key": "two.key"},
            "backends[0].client_cert: the key does not belong to the certificate",
        ),
        ({"client_cert": "one.pem"}, "backends[0].client_cert: a certificate and its key"),
    ],
)
def test_files_of_a_backend(
    problems: Problems, files: Path, given: dict[str, str], problem: str
) -> None:
    """A broken file of a backend is one problem."""
    lines = "".join(f"{name} = '{files / file}'\n" for name, file in given.items())
    found = problems(BACKEND + lines)

    assert len(found) == 1
    assert found[0].startswith(problem)
