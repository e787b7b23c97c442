"""The order of machines for an identity."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from ollama_gateway.backends.rendezvous import draw


def first(number: int, weights: dict[str, float]) -> str:
    """Return the machine that comes first for a numbered identity."""
    identity = number.to_bytes(16, "big")
    return max(weights, key=lambda name: draw(identity, name, weights[name]))


def test_machines_come_first_in_proportion_to_their_weights() -> None:
    """Of 6,000 identities, a machine of weight 2 gets about twice as many as one of weight 1."""
    counts = Counter(first(number, {"a": 1, "b": 1, "c": 2}) for number in range(6000))

    assert 1350 < counts["a"] < 1650
    assert 1350 < counts["b"] < 1650
    assert 2800 < counts["c"] < 3200


def test_only_the_conversations_of_a_machine_that_leaves_move() -> None:
    """Without `b`, each identity that did not go to `b` goes where it went before."""
    for number in range(500):
        before = first(number, {"a": 1, "b": 1, "c": 1})
        after = first(number, {"a": 1, "c": 1})
        assert before in {after, "b"}


def test_another_process_draws_alike() -> None:
    """The draws do not depend on the process, so gateways agree without sharing anything."""
    code = (
        "from ollama_gateway.backends.rendezvous import draw;"
        "print([draw(bytes([n] * 16), 'gpu-1', 3) for n in range(20)])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert other.stdout.strip() == str([draw(bytes([n] * 16), "gpu-1", 3) for n in range(20)])
