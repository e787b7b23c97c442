"""Management over real sockets, with Ollama's client and with `gatewayctl pull`."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import attrs
import ollama
import pytest

from tests.smoke.fleet import Fleet, fleet

ONE, OTHER = "shared:1", "only-b:1"


@attrs.define
class Operated:
    """A fleet, and a key that may manage it."""

    fleet: Fleet
    key: str

    def client(self, backend: str) -> ollama.Client:
        """Return Ollama's client for one machine, as `OLLAMA_HOST` selects it for the CLI."""
        return ollama.Client(f"{self.fleet.url}/k/{self.key}/b/{backend}")


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """Run two simulators behind a gateway with a `max_body` of 1 KiB."""
    directory = tmp_path_factory.mktemp("data")
    with fleet(
        directory, GATEWAY_SERVER_MAX_BODY="1KiB", GATEWAY_SERVER_MAX_BODY_TOTAL="64KiB"
    ) as f:
        groups = "inference,read,manage"
        yield Operated(f, f.ctl_json("keys", "create", "ops", "--endpoints", groups)["key"])


def listed(client: ollama.Client) -> set[str]:
    """Return the names that a client lists."""
    return {str(model.model) for model in client.list().models}


def test_ollamas_client_manages_one_machine(operated: Operated) -> None:
    """Push, delete, pull, copy and create change one machine only, as its list shows."""
    with operated.client("a") as a, operated.client("b") as b:
        pushed = [part.status for part in a.push(ONE, stream=True)]
        assert a.delete(ONE).status == "success"
        assert listed(a) == {"only-a:1"}
        pulled = list(a.pull(ONE, stream=True))
        assert listed(a) == {ONE, "only-a:1"}

        assert (pushed[0], pushed[-1]) == ("retrieving manifest", "success")
        assert (pulled[0].status, pulled[-1].status) == ("pulling manifest", "success")
        assert any(part.completed and part.total for part in pulled)

        assert a.pull(ONE).status == "success"
        assert a.copy(ONE, "mine:2").status == "success"
        assert a.create("made:3", from_=ONE, system="x").status == "success"
        assert listed(a) == {ONE, "only-a:1", "mine:2", "made:3"}
        assert a.show("made:3").modelinfo is not None
        assert [part.message.content for part in a.chat("made:3", [], stream=True)]
        assert listed(b) == {ONE, OTHER}
        for name in ("mine:2", "made:3"):
            a.delete(name)
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            list(a.pull("nowhere:1", stream=True))


def test_a_blob_and_the_model_made_of_it(operated: Operated, tmp_path: Path) -> None:
    """A blob may be larger than other bodies, and a create finds it on the same machine."""
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF" * 1_000_000)
    with operated.client("b") as b:
        digest = b.create_blob(file)
        assert b.create("of-files:1", files={"weights.gguf": digest}).status == "success"
        assert "of-files:1" in listed(b)
        b.delete("of-files:1")
    with operated.client("a") as a, pytest.raises(ollama.ResponseError, match="no such file"):
        list(a.create("of-files:1", files={"weights.gguf": digest}, stream=True))


def test_a_blob_in_chunks(operated: Operated) -> None:
    """A blob without a length arrives whole, as its digest shows."""
    chunks = [bytes([number]) * 100_000 for number in range(30)]
    digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", operated.fleet.port)
    headers = {"Authorization": f"Bearer {operated.key}", "X-Gateway-Backend": "a"}
    path = f"/api/blobs/sha256:{digest}"
    statuses = []
    for method, body in (("HEAD", None), ("POST", iter(chunks)), ("HEAD", None)):
        connection.request(method, path, body, headers, encode_chunked=body is not None)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()

    assert statuses == [404, 201, 200]


def test_pull_onto_all(operated: Operated) -> None:
    """`gatewayctl pull` prints how each backend ended, and exits with 1 if one failed."""
    result = operated.fleet.ctl("pull", "only-a:1", "--all")
    lines = result.stdout.splitlines()

    assert result.returncode == 1
    assert "a: success" in lines
    assert "b: failed: pull model manifest: file does not exist" in lines
    assert not {line for line in lines if line.startswith("b: success")}


def test_models_reports_digest_mismatches(operated: Operated) -> None:
    """A name with two digests is listed once, and `models` shows the digest of each backend."""
    with operated.client("b") as b:
        b.create("drifting:1", from_=ONE, system="one")
    with operated.client("a") as a:
        a.create("drifting:1", from_=ONE, system="other")
    found = operated.fleet.ctl_json("models")
    table = operated.fleet.ctl("models").stdout
    logged = [line for line in operated.fleet.gateway.lines if "digests differ" in line]

    assert set(found) == {"backends", "union", "cache", "drift", "sizes", "aliases", "hidden"}
    assert found["union"].count("drifting:1") == 1
    digests = found["drift"]["drifting:1"]
    assert (set(digests), len(set(digests.values()))) == ({"a", "b"}, 2)
    assert all(f"{name}        {digest[:12]}" in table for name, digest in digests.items())
    assert len([line for line in logged if "drifting:1" in line]) == 1
