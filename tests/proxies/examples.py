"""Run proxies with the examples of docs/operate/proxies.md, completed where they are a part."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from tests.smoke.fleet import free_port
from tests.support.patience import PATIENCE

DOCS: Final = Path(__file__).parents[2] / "docs" / "operate" / "proxies.md"
GATEWAY: Final = "gateway:11435"


@attrs.frozen
class Proxy:
    """A proxy of Debian."""

    program: str
    """The name of the program and of its package."""
    start: tuple[str, ...]
    """Its arguments; `{file}` is the configuration."""
    around: str
    """The configuration around the `{example}`, with the proxy's `{port}` and a `{directory}`."""
    listens: tuple[str, str] = ("", "")
    """A text of the example that says where it listens, and its replacement."""


_TEMPORARY: Final = "".join(
    f"    {name}_temp_path {{directory}}/{name};\n"
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
PROXIES: Final = {
    "nginx": Proxy(
        "nginx",
        ("-p", "{directory}", "-c", "{file}"),
        "daemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n"
        + _TEMPORARY
        + "    access_log off;\n    server {{\n    listen 127.0.0.1:{port};\n{example}\n}}\n}}\n",
    ),
    "haproxy": Proxy(
        "haproxy",
        ("-db", "-f", "{file}"),
        "{example}",
        ("bind :443 ssl crt /etc/haproxy/ollama.pem", "bind 127.0.0.1:{port}"),
    ),
    "caddyfile": Proxy(
        "caddy",
        ("run", "--adapter", "caddyfile", "--config", "{file}"),
        "{{\n    admin off\n    auto_https off\n    grace_period 1s\n}}\n{example}\n",
        ("ollama.example.com", "http://127.0.0.1:{port}"),
    ),
    "apache": Proxy(
        "apache2",
        ("-DFOREGROUND", "-d", "{directory}", "-f", "{file}"),
        "ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {directory}/pid\n"
        "DefaultRuntimeDir {directory}\nErrorLog /dev/stderr\n"
        + "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in ("mpm_event", "authz_core", "proxy", "proxy_http")
        )
        + "{example}\n",
    ),
}
"""By the language of their example in the docs."""


def missing() -> list[str]:
    """Return the packages that are not installed."""
    return [proxy.program for proxy in PROXIES.values() if _path_of(proxy) is None]


def examples() -> dict[str, str]:
    """Return the examples of the docs, by language."""
    blocks = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", DOCS.read_text())
    return {
        language: text for language, text in blocks if GATEWAY in text and language != "console"
    }


@contextmanager
def proxy(language: str, gateway_port: int, directory: Path) -> Iterator[int]:
    """Run a proxy in front of a gateway during the block; the value is its port."""
    chosen, port = PROXIES[language], free_port()
    text = examples()[language]
    assert chosen.listens[0] in text, f"the example says no longer {chosen.listens[0]!r}"
    places = {"directory": str(directory), "port": port, "file": str(directory / "proxy.conf")}
    if chosen.listens[0]:
        text = text.replace(chosen.listens[0], chosen.listens[1].format(**places))
    text = text.replace(GATEWAY, f"127.0.0.1:{gateway_port}")
    (directory / "proxy.conf").write_text(chosen.around.format(example=text, **places))
    program = _path_of(chosen)
    assert program is not None
    process = subprocess.Popen(
        [program, *(argument.format(**places) for argument in chosen.start)],
        env={**os.environ, "HOME": str(directory)},
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _path_of(proxy: Proxy) -> str | None:
    return shutil.which(proxy.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the proxy has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
            return
        time.sleep(0.05)
    raise AssertionError("the proxy does not listen")
