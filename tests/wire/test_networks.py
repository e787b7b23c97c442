from __future__ import annotations

import pytest

from ollama_gateway.wire.networks import address_of, is_in, network_of

NETWORKS = tuple(map(network_of, ("10.0.0.0/8", "192.0.2.7", "fd00::/8")))


@pytest.mark.parametrize(
    ("text", "is_inside"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd12::1", True),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:a00:1", True),
        ("::ffff:11.0.0.1", False),
        ("::10.0.0.1", False),
        ("", False),
        ("10.0.0.1:80", False),
        ("10.0.0", False),
        ("010.0.0.1", False),
        ("/run/gateway.sock", False),
        ("unix:", False),
    ],
)
def test_what_is_in_a_network(text: str, *, is_inside: bool) -> None:
    """An address counts by its number, in either notation; other texts are in no network."""
    assert is_in(address_of(text), NETWORKS) is is_inside


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.5/8", 'has bits set behind its prefix; "10.0.0.0/8" is the network it lies in'),
        ("10.0.0.0/40", "is not a network"),
        ("10.0.0.0/", "is not a network"),
        ("example.com", "is not a network"),
        ("", "is not a network"),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
    ],
)
def test_what_is_no_network(text: str, fault: str) -> None:
    """A network that would never match, or match another one, is refused with a reason."""
    with pytest.raises(ValueError, match=fault):
        network_of(text)
