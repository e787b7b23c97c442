"""`gatewayctl explain` beside a running gateway, and without one."""

from __future__ import annotations

import json
from pathlib import Path

from tests.smoke.fleet import Fleet, ctl, free_port


def test_who_would_be_asked(own_fleet: Fleet) -> None:
    """A line for each backend, in order, and the reason of those passed over; exit 1 for none."""
    shown = own_fleet.ctl("explain", "only-b:1")
    found = own_fleet.ctl_json("explain", "shared:1")
    none = own_fleet.ctl("explain", "nope")

    assert shown.returncode == 0
    assert [line.split("  ")[0] for line in shown.stdout.splitlines()] == ["order", "1", "-"]
    assert "does not list the model" in shown.stdout
    assert [one["backend"] for one in found["candidates"]] == ["a", "b"]
    assert none.returncode == 1


def test_what_a_key_may_use(own_fleet: Fleet) -> None:
    """By the key's id: exit 1 and a line on stderr for a model that is not its own."""
    made = own_fleet.ctl_json("keys", "create", "narrow", "--models", "only-a:1")
    allowed = own_fleet.ctl("explain", "only-a:1", "--key", made["id"])
    refused = own_fleet.ctl("explain", "shared:1", "--key", made["id"], "--json")
    nobody = own_fleet.ctl("explain", "shared:1", "--key", "a/b?c")

    assert allowed.returncode == 0
    assert (refused.returncode, json.loads(refused.stdout)["key"]["may_use"]) == (1, False)
    assert (nobody.returncode, nobody.stderr) == (1, "gatewayctl explain: no such key\n")


def test_without_a_gateway(tmp_path: Path) -> None:
    """Only a running gateway knows."""
    settings = {
        "GATEWAY_STORAGE_DATA_DIR": str(tmp_path),
        "GATEWAY_SERVER_ADMIN_BIND": f"127.0.0.1:{free_port()}",
    }
    result = ctl("explain", "m", environment=settings)

    assert (result.returncode, result.stdout) == (1, "")
    assert "no gateway answers on 127.0.0.1" in result.stderr
