"""Pulling, pushing, creating, copying and deleting models, and the blobs they consist of."""

from __future__ import annotations

import hashlib
import tracemalloc

import anyio
import pytest
import trio.testing
from anyio.abc import ByteStream

from ollama_gateway.simulator import Call, Model, Script, Simulator, memory_server
from tests.simulator.client import Answer, answer, ask, request

HELLO = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
PULL = "/api/pull"


def fresh(*models: str) -> Simulator:
    """Make a simulator that hosts models, and can pull one more."""
    return Simulator([Model(name) for name in models], registry=[Model("far", size=4_000)])


async def posted(simulator: Simulator, path: str, body: object, method: str = "POST") -> Answer:
    """Send a request on a connection of its own."""
    async with memory_server(simulator) as connect:
        return await ask(await connect(), method, path, body)


async def names(simulator: Simulator) -> list[str]:
    """Return the names in `/api/tags`."""
    listed = await posted(simulator, "/api/tags", b"", "GET")
    return [row["name"] for row in listed.document["models"]]


async def test_a_pull_tells_its_progress_and_then_lists_the_model() -> None:
    """A blob's progress runs from nothing to nearly all, a small one has one line."""
    simulator = fresh()
    pulled = await posted(simulator, PULL, {"model": "far"})
    first = [line for line in pulled.lines if line.get("total") == 3_500]
    small = [line for line in pulled.lines if line.get("total") == 500]

    assert [line["status"] for line in pulled.lines if "digest" not in line] == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert [line.get("completed") for line in first] == [None, 700, 1_400, 2_100, 2_800]
    assert [line.get("completed") for line in small] == [None]
    assert {line["status"] for line in first} == {f"pulling {first[0]['digest'][7:19]}"}
    assert await names(simulator) == ["far:latest"]


async def test_a_second_pull_moves_nothing() -> None:
    """Each blob that is here already has one line, as complete."""
    simulator = fresh()
    await posted(simulator, PULL, {"model": "far"})
    again = await posted(simulator, PULL, {"model": "far"})

    moved = [line for line in again.lines if "digest" in line]
    assert [line["completed"] for line in moved] == [line["total"] for line in moved] == [3500, 500]


async def test_a_pull_without_a_stream_is_its_last_line() -> None:
    """With `stream` false the answer is one object, with a content type without a charset."""
    simulator = fresh()
    pulled = await posted(simulator, PULL, {"name": "far", "stream": False})

    assert (pulled.body, pulled.kind) == (b'{"status":"success"}', "application/json")
    assert await names(simulator) == ["far:latest"]


@pytest.mark.parametrize(("stream", "status"), [(True, 200), (False, 500)])
async def test_a_pull_of_what_nobody_has_says_so(stream: bool, status: int) -> None:  # noqa: FBT001
    """The error is a line within the 200 of a stream; without a stream it is a 500."""
    pulled = await posted(fresh(), PULL, {"model": "nobody", "stream": stream})

    assert pulled.status == status
    assert pulled.lines[-1] == {"error": "pull model manifest: file does not exist"}


async def test_a_slow_pull_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    """`pace` delays each line; the model exists at the end, not before."""
    simulator = fresh()
    simulator.script(Script(pace=10), path=PULL)
    async with memory_server(simulator) as connect, anyio.create_task_group() as tasks:
        stream = await connect()
        tasks.start_soon(stream.send, request("POST", PULL, {"model": "far"}))
        await anyio.sleep(95)
        before = await names(simulator)
        pulled = await answer(stream)

    lines = len(pulled.lines)
    assert [at for at, _ in pulled.chunks][-1] == lines * 10
    assert (before, await names(simulator)) == ([], ["far:latest"])


async def test_a_pull_that_fails_in_the_middle_leaves_no_model() -> None:
    """The error is the last line after so many, and the body ends properly."""
    simulator = fresh()
    simulator.script(Script(error_after=3, error="disk full"), path=PULL)
    pulled = await posted(simulator, PULL, {"model": "far"})

    assert (pulled.status, pulled.is_complete, len(pulled.lines)) == (200, True, 4)
    assert pulled.lines[-1] == {"error": "disk full"}
    assert await names(simulator) == []


async def test_a_client_that_leaves_stops_its_pull(autojump_clock: trio.testing.MockClock) -> None:
    """A pull whose client has gone adds no model."""
    simulator = fresh()
    simulator.script(Script(pace=10), path=PULL)
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", PULL, {"model": "far"}))
        await anyio.sleep(25)
        await stream.aclose()
        await anyio.sleep(1000)

    assert simulator.seen[0].gone_at == 25
    assert await names(simulator) == []


async def test_a_cut_pull_ends_without_its_terminator() -> None:
    """The scripts of the dialects work for a pull too."""
    simulator = fresh()
    simulator.script(Script(cut_after=2), path=PULL)
    pulled = await posted(simulator, PULL, {"model": "far"})

    assert (pulled.is_complete, len(pulled.lines)) == (False, 2)


async def test_a_deleted_model_is_neither_listed_nor_served_and_can_be_pulled_again() -> None:
    """Deleting removes the model here, not from the registry."""
    simulator = fresh("m1")
    deleted = await posted(simulator, "/api/delete", {"name": "M1"}, "DELETE")
    asked = await posted(simulator, "/api/chat", {"model": "m1"})
    gone = await names(simulator)
    await posted(simulator, PULL, {"model": "m1"})

    assert (deleted.status, deleted.kind, deleted.body) == (200, "", b"")
    assert (asked.status, gone) == (404, [])
    assert await names(simulator) == ["m1:latest"]


async def test_a_cloud_name_is_deleted_as_it_is_stored() -> None:
    """Deleting `x:20b:cloud` removes the model `x:20b-cloud`."""
    simulator = fresh("x:20b-cloud")
    deleted = await posted(simulator, "/api/delete", {"model": "x:20b:cloud"}, "DELETE")

    assert (deleted.status, await names(simulator)) == (200, [])


async def test_a_copy_says_what_its_source_says() -> None:
    """Both names are listed with one digest, and the new one answers."""
    simulator = fresh("m1")
    await posted(simulator, "/api/copy", {"source": "m1", "destination": "me/m2:v1"})
    listed = (await posted(simulator, "/api/tags", b"", "GET")).document["models"]
    spoken = await posted(simulator, "/api/generate", {"model": "me/m2:v1", "prompt": "x"})

    assert [row["name"] for row in listed] == ["me/m2:v1", "m1:latest"]
    assert len({row["digest"] for row in listed}) == 1
    assert spoken.status == 200


async def test_a_copy_onto_another_spelling_keeps_the_one_that_is_there() -> None:
    """Names that differ in case only are one model."""
    simulator = fresh("m1", "m2")
    await posted(simulator, "/api/copy", {"source": "m1", "destination": "M2"})

    assert sorted(await names(simulator)) == ["m1:latest", "m2:latest"]


async def test_a_model_is_made_of_another_one() -> None:
    """It is listed with its parent and its own digest, and answers like its source."""
    simulator = Simulator([Model("m1", ("yes",), calls=(Call("f"),))])
    made = await posted(simulator, "/api/create", {"model": "m3", "from": "m1", "system": "s"})
    row, base = (await posted(simulator, "/api/tags", b"", "GET")).document["models"]
    spoken = await posted(
        simulator, "/api/generate", {"model": "m3", "prompt": "x", "stream": False}
    )

    assert made.lines[-1] == {"status": "success"}
    assert (row["name"], row["details"]["parent_model"]) == ("m3:latest", "m1:latest")
    assert row["digest"] != base["digest"]
    assert spoken.document["response"] == "yes"


async def test_a_model_is_made_of_one_that_has_to_be_pulled_first() -> None:
    """If the source is not here, the pull's lines come before those of the creation."""
    simulator = fresh()
    made = await posted(simulator, "/api/create", {"model": "m3", "from": "far"})

    assert made.lines[0] == {"status": "pulling manifest"}
    assert await names(simulator) == ["m3:latest"]


async def test_a_pushed_model_can_be_pulled_again() -> None:
    """A push adds a local model to the registry."""
    simulator = fresh()
    simulator.add_model(Model("mine", ("own",)))
    pushed = await posted(simulator, "/api/push", {"model": "mine"})
    await posted(simulator, "/api/delete", {"model": "mine"}, "DELETE")
    await posted(simulator, PULL, {"model": "mine"})

    assert [line["status"] for line in pushed.lines][-2:] == ["pushing manifest", "success"]
    assert await names(simulator) == ["mine:latest"]


async def test_a_blob_is_there_once_it_was_uploaded_and_a_model_can_be_made_of_it() -> None:
    """A blob is 404, then 201, then 200 for both methods; a created file needs its blob."""
    simulator = fresh()
    path, files = f"/api/blobs/{HELLO}", {"files": {"a.gguf": HELLO}}
    missing = await posted(simulator, path, b"", "HEAD")
    early = await posted(simulator, "/api/create", {"model": "b", "stream": False} | files)
    stored = [await posted(simulator, path, b"hello") for _ in range(2)]
    there = await posted(simulator, path, b"", "HEAD")
    made = await posted(simulator, "/api/create", {"model": "b", "stream": False} | files)

    assert [reply.status for reply in (missing, early, *stored, there, made)] == [
        404,
        500,
        201,
        200,
        200,
        200,
    ]
    assert await names(simulator) == ["b:latest"]


async def upload(stream: ByteStream, pieces: int) -> str:
    """Upload chunks of 64 KiB as the command line does; return their digest."""
    piece, whole = bytes(65_536), hashlib.sha256()
    head = f"POST /api/blobs/{HELLO} HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n"
    await stream.send(head.encode())
    for _ in range(pieces):
        whole.update(piece)
        await stream.send(b"10000\r\n" + piece + b"\r\n")
    await stream.send(b"0\r\n\r\n")
    return f"sha256:{whole.hexdigest()}"


async def test_an_upload_is_hashed_as_it_comes_and_never_kept() -> None:
    """Less than one of 8 MiB is held at any time, and the refusal names the digest received."""
    simulator = fresh()
    async with memory_server(simulator) as connect:
        stream = await connect()
        tracemalloc.start()
        digest = await upload(stream, 128)
        refused = await answer(stream)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert refused.document["error"] == f'digest mismatch, expected "{HELLO}", got "{digest}"'
    assert peak < 1 << 20
    assert simulator.seen[0].body == b""


async def test_an_upload_is_there_under_its_own_digest_even_where_it_was_refused() -> None:
    """Ollama keeps an upload under its own digest."""
    simulator = fresh()
    other = f"/api/blobs/sha256:{'a' * 64}"

    assert (await posted(simulator, other, b"hello")).status == 400
    assert (await posted(simulator, f"/api/blobs/{HELLO}", b"", "HEAD")).status == 200
