"""A gateway with TLS, as a process, and real client libraries."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import ollama
import openai
import pytest

from tests.smoke.fleet import TWO, Fleet, clean_environment, ctl, fleet
from tests.support.certificates import ServerFiles

SAY_HI = [{"role": "user", "content": "hi"}]


@attrs.frozen
class Secured:
    """A fleet whose gateway uses TLS, and the certificate to trust it."""

    fleet: Fleet
    context: ssl.SSLContext

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"https://127.0.0.1:{self.fleet.port}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Run a fleet with TLS."""
    server_files = ServerFiles.into(tmp_path_factory.mktemp("certificate"))
    with fleet(
        tmp_path_factory.mktemp("data"),
        {"a": TWO["a"]},
        GATEWAY_SERVER_TLS_CERT=str(server_files.cert),
        GATEWAY_SERVER_TLS_KEY=str(server_files.key),
    ) as started:
        yield Secured(started, server_files.client)


def test_ollamas_client_over_tls(secured: Secured) -> None:
    """Ollama's client lists and streams with the authority's certificate."""
    headers = {"Authorization": f"Bearer {secured.fleet.key}"}
    with ollama.Client(secured.url, headers=headers, verify=secured.context) as client:
        assert {model.model for model in client.list().models} == {"shared:1", "only-a:1"}
        parts = list(client.chat("shared:1", SAY_HI, stream=True))

    assert len(parts) > 1
    assert parts[-1].done


def test_openais_client_over_tls(secured: Secured) -> None:
    """OpenAI's client streams to the end."""
    with (
        openai.DefaultHttpxClient(verify=secured.context) as http,
        openai.OpenAI(
            base_url=f"{secured.url}/v1", api_key=secured.fleet.key, max_retries=0, http_client=http
        ) as client,
    ):
        chunks = client.chat.completions.create(
            model="shared:1", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        last = list(chunks)[-1]

    assert last.choices[0].finish_reason == "stop"


def test_the_path_serves_clients_without_headers(secured: Secured) -> None:
    """A key in the path works over TLS, also for the HEAD that the CLI sends first."""
    url = f"{secured.url}/k/{secured.fleet.key}"
    head = urllib.request.Request(f"{url}/", method="HEAD")  # noqa: S310 - our own server
    with urllib.request.urlopen(head, context=secured.context) as answer:  # noqa: S310
        assert answer.status == 200
    with urllib.request.urlopen(f"{url}/api/tags", context=secured.context) as answer:  # noqa: S310
        assert len(json.load(answer)["models"]) == 2


def test_its_address_is_logged_with_its_scheme(secured: Secured) -> None:
    """The log line `serving` has the address with `https`."""
    line = json.loads(secured.fleet.gateway.wait_for('"serving"'))
    assert line["address"] == secured.url


def test_plain_http_is_no_answer_and_no_harm(secured: Secured) -> None:
    """A client without TLS is disconnected, logged and counted."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{secured.fleet.port}/", trust_env=False)
    line = json.loads(secured.fleet.gateway.wait_for("tls_handshake"))
    assert line["component"] == "refused"
    metrics = f"http://127.0.0.1:{secured.fleet.gateways[0].admin_port}/metrics"
    assert 'refused_total{reason="tls_handshake"}' in httpx.get(metrics, trust_env=False).text


def test_files_that_do_not_go_together_end_the_start(tmp_path: Path) -> None:
    """A certificate and a key that do not fit are one line and exit code 2."""
    one, two = ServerFiles.into(tmp_path / "one"), ServerFiles.into(tmp_path / "two")
    environment = {
        **clean_environment(),
        "OLLAMA_BACKENDS": "a=http://127.0.0.1:1",
        "GATEWAY_STORAGE_DATA_DIR": str(tmp_path),
        "GATEWAY_SERVER_TLS_CERT": str(one.cert),
        "GATEWAY_SERVER_TLS_KEY": str(two.key),
    }
    ended = ctl("serve", environment=environment)

    assert ended.returncode == 2
    assert ended.stderr == (
        "GATEWAY_SERVER_TLS_CERT: with tls_key: the key does not belong to the certificate\n"
    )
