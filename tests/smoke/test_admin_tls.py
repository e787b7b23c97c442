"""The admin listener with TLS, as a process, and the commands that ask it."""

from __future__ import annotations

import json
import stat
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.smoke.fleet import PATIENCE, TWO, ctl, fleet
from tests.support.certificates import ServerFiles
from tests.support.redis_server import redis_server


@pytest.mark.parametrize("processes", ["1", "2"])
def test_commands_speak_tls_to_their_own_listener(tmp_path: Path, processes: str) -> None:
    """`health` and `reload` work with the certificate of the settings, also a renewed one; with
    another certificate, or in plain HTTP, they find no gateway."""
    files = ServerFiles.into(tmp_path / "certificate")
    other = ServerFiles.into(tmp_path / "other")
    (tmp_path / "data").mkdir()
    with ExitStack() as stack:
        settings = {
            "GATEWAY_SERVER_ADMIN_TLS_CERT": str(files.cert),
            "GATEWAY_SERVER_ADMIN_TLS_KEY": str(files.key),
            "GATEWAY_SERVER_PROCESSES": processes,
        }
        if processes != "1":
            settings["GATEWAY_REDIS_URL"] = stack.enter_context(redis_server())
        running = stack.enter_context(
            fleet(tmp_path / "data", {"a": TWO["a"]}, 1, "in order", **settings)
        )
        ours = running.environment
        assert json.loads(ctl("health", "--json", environment=ours).stdout)["alive"]
        assert ctl("reload", environment=ours).returncode == 0

        files.issue()
        assert json.loads(ctl("health", "--json", environment=ours).stdout)["alive"]

        foreign = {**ours, "GATEWAY_SERVER_ADMIN_TLS_CERT": str(other.cert)}
        foreign["GATEWAY_SERVER_ADMIN_TLS_KEY"] = str(other.key)
        assert ctl("health", environment=foreign).returncode == 1
        plain = {n: value for n, value in ours.items() if "ADMIN_TLS" not in n}
        assert ctl("health", environment=plain).returncode == 1

        port = running.gateways[0].admin_port
        with closing(
            HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=files.client)
        ) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200


def test_the_file_of_the_local_token(tmp_path: Path) -> None:
    """Its owner alone can read it; a file of another mode is refused in one line, by commands and
    by a gateway that starts."""
    with fleet(tmp_path, {"a": TWO["a"]}) as running:
        path = Path(running.environment["GATEWAY_STORAGE_DATA_DIR"]) / "admin.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert ctl("reload", environment=running.environment).returncode == 0
        path.chmod(0o640)
        ended = ctl("reload", environment=running.environment)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.splitlines()[0] == f"{path}: has the mode 0640, not 0600: remove it"
        ended = ctl("serve", environment=running.environment)
        assert ended.returncode != 0
