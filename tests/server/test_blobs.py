"""Blobs are passed on as they arrive, without the size bound of other bodies."""

from __future__ import annotations

import hashlib

import pytest

from ollama_gateway.simulator import Script
from tests.server.managing import ManagingClient, managed

pytestmark = pytest.mark.virtual_time

BLOB = b"weights" * 100_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
SMALL = {"GATEWAY_SERVER_MAX_BODY": "1KiB", "GATEWAY_SERVER_MAX_BODY_TOTAL": "1KiB"}


async def test_a_blob_is_larger_than_any_other_body() -> None:
    """A blob may exceed `server.max_body`; the backend gets every byte, and its length."""
    async with managed(settings=SMALL) as client:
        before = await client.ask(f"/api/blobs/{DIGEST}", method="HEAD", to="a")
        new = await client.ask(f"/api/blobs/{DIGEST}", BLOB, to="a")
        again = await client.ask(f"/api/blobs/{DIGEST}", BLOB, to="a")
        after = await client.ask(f"/api/blobs/{DIGEST}", method="HEAD", to="a")
        upload = next(
            seen for seen in client.scenario.simulators["a"].seen if seen.method == "POST"
        )
        other = await client.ask("/api/pull", b" " * 2000, to="a")

    assert [r.status for r in (before, new, again, after, other)] == [404, 201, 200, 200, 413]
    assert (new.body, before.body) == (b"", b"")
    assert upload.header("content-length") == str(len(BLOB))
    assert upload.header("transfer-encoding") in {None, ""}
    assert client.scenario.gateway.app.bodies.held == 0
    records = client.scenario.records
    assert [record.endpoint for record in records[:4]] == ["/api/blobs"] * 4
    assert [record.bytes_in for record in records[:4]] == [0, len(BLOB), len(BLOB), 0]
    assert [record.outcome for record in records[:4]] == ["refused", *["completed"] * 3]


async def test_a_digest_that_is_not_the_blobs(client: ManagingClient) -> None:
    """The backend's error about a wrong digest passes unchanged."""
    reply = await client.ask(f"/api/blobs/sha256:{'0' * 64}", BLOB, to="a")

    assert reply.status == 400
    assert reply.document == {
        "error": f'digest mismatch, expected "sha256:{"0" * 64}", got "{DIGEST}"'
    }
    assert [(record.outcome, record.reason) for record in client.scenario.records] == [
        ("refused", "backend_refused")
    ]


@pytest.mark.parametrize(
    "digest",
    [
        "abc",
        "sha256:abc",
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 65,
        "sha512:" + "a" * 64,
        "a" * 64,
        "..",
        "sha256%3A" + "a" * 64,
        "sha256:" + "a" * 63 + "%0A",
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_bad_digests(client: ManagingClient, method: str, digest: str) -> None:
    """A malformed digest is refused with Ollama's words and reaches no backend."""
    reply = await client.ask(f"/api/blobs/{digest}", b"x", method=method, to="a")

    assert reply.status == 400
    assert method == "HEAD" or reply.document == {"error": "invalid digest format"}
    assert client.paths("a") == []
    assert [record.reason for record in client.scenario.records] == ["invalid_digest"]


@pytest.mark.parametrize("path", ["/api/blobs", "/api/blobs/", "/api/blobs/a/b"])
async def test_paths_that_are_no_blob(client: ManagingClient, path: str) -> None:
    """A path without exactly one segment for the digest is a 404."""
    assert (await client.ask(path, b"x", to="a")).status == 404


async def test_a_dash_is_a_digest_too(client: ManagingClient) -> None:
    """`sha256-` is accepted, as by Ollama; the path goes to the backend unchanged."""
    path = f"/api/blobs/{DIGEST.replace(':', '-')}"
    await client.ask(path, method="HEAD", to="a")

    assert client.paths("a") == [path]


@pytest.mark.parametrize(
    ("script", "status", "reason", "seconds"),
    [
        (Script(cut_after=0), 502, "connection_broken", 0),
        (Script(hang_after=0), 504, "idle_timeout", 300),
    ],
    ids=["breaks off", "never answers"],
)
async def test_a_backend_that_gives_no_answer(
    client: ManagingClient, script: Script, status: int, reason: str, seconds: float
) -> None:
    """It has the idle timeout after the upload, which is not sent again."""
    path = f"/api/blobs/{DIGEST}"
    client.scenario.simulators["a"].script(script, path=path)
    reply = await client.ask(path, BLOB, to="a")

    assert (reply.status, [record.reason for record in client.scenario.records]) == (
        status,
        [reason],
    )
    assert reply.ended_at == pytest.approx(seconds, abs=1)
    assert client.paths("a") == [path]
