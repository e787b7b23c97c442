"""`gatewayctl explain` with a running gateway."""

from __future__ import annotations

import json

from tests.smoke.fleet import Fleet


def test_the_backends_that_would_be_asked(shared_fleet: Fleet) -> None:
    """Each backend has a line, in order, with the reason; no candidate is exit code 1."""
    shown = shared_fleet.ctl("explain", "only-b:1")
    found = shared_fleet.ctl_json("explain", "shared:1")
    none = shared_fleet.ctl("explain", "nope")
    near = shared_fleet.ctl("explain", "only-c:1")

    assert shown.returncode == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["order", "1", "-"]
    assert "does not list the model" in shown.stdout
    assert "0 of 1 (learned)" in shown.stdout
    assert [one["backend"] for one in found["candidates"]] == ["a", "b"]
    assert none.returncode == 1
    assert 'no backend lists "only-c:1" (did you mean only-' in near.stderr


def test_what_a_key_may_use(shared_fleet: Fleet) -> None:
    """A model that the key may not use is a line on stderr and exit code 1."""
    made = shared_fleet.ctl_json("keys", "create", "narrow", "--models", "only-a:1")
    allowed = shared_fleet.ctl("explain", "only-a:1", "--key", "narrow")
    refused = shared_fleet.ctl("explain", "shared:1", "--key", made["id"], "--json")
    mistyped = shared_fleet.ctl("explain", "shared:1", "--key", "narow")
    unknown = shared_fleet.ctl("explain", "shared:1", "--key", "a/b?c")

    assert allowed.returncode == 0
    assert (refused.returncode, json.loads(refused.stdout)["key"]["may_use"]) == (1, False)
    assert unknown.returncode == 1
    assert unknown.stderr.endswith(
        "gatewayctl explain: no key 'a/b?c': `gatewayctl keys list` shows them\n"
    )
    assert "no key 'narow' (did you mean narrow?)" in mistyped.stderr
