"""The clients of OpenAI and Anthropic get the right answers, and are metered, in every dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from ollama_gateway.ledger.read.audit_log import AuditLog
from ollama_gateway.ledger.read.filtering import ALL
from tests.smoke.asking import MODEL, SAY_HI, anthropic_client, openai_client
from tests.smoke.fleet import Fleet, fleet

TEXT: Final = "Hello from a simulated model,"
METERED: Final = {"outcome": "completed", "status": 200, "tokens_source": "reported"}
PACE: Final = ("--tokens", "5", "--token-delay", "1ms")


@pytest.fixture(scope="module")
def strict_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose audit records are on disk before the client has its answer."""
    simulators = {"a": ("--model", MODEL, *PACE)}
    data = tmp_path_factory.mktemp("data")
    with fleet(data, simulators, GATEWAY_AUDIT_MODE="strict") as started:
        yield started


@pytest.fixture
def gpt(strict_fleet: Fleet) -> Iterator[openai.OpenAI]:
    """Return OpenAI's client."""
    with openai_client(strict_fleet) as client:
        yield client


@pytest.fixture
def claude(strict_fleet: Fleet) -> Iterator[anthropic.Anthropic]:
    """Return Anthropic's client."""
    with anthropic_client(strict_fleet) as client:
        yield client


def last_row(of: Fleet) -> dict[str, Any]:
    """Return the newest audit record, which is on disk when the client has its answer."""
    directory = Path(of.environment["GATEWAY_STORAGE_DATA_DIR"])
    *_, last = AuditLog(directory, pytest.fail).records(ALL)
    return dict(last.document)


def assert_metered(of: Fleet, endpoint: str, prompt: int) -> None:
    """Assert that the newest audit record has the usage that the client saw."""
    record = last_row(of)
    assert {name: record[name] for name in METERED} == METERED
    assert (record["endpoint"], record["prompt_tokens"], record["completion_tokens"]) == (
        endpoint,
        prompt,
        5,
    )


def test_responses_stream(strict_fleet: Fleet, gpt: openai.OpenAI) -> None:
    """`responses.create(stream=True)` yields the text, the end and the metered usage."""
    events = list(gpt.responses.create(model=MODEL, input="hi", stream=True))

    words = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    last = events[-1]
    assert words == TEXT
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 5
    assert_metered(strict_fleet, "/v1/responses", last.response.usage.input_tokens)


def test_responses_whole(strict_fleet: Fleet, gpt: openai.OpenAI) -> None:
    """A whole response has its text and its usage."""
    answer = gpt.responses.create(model=MODEL, input="hi", max_output_tokens=50)

    assert answer.output_text == TEXT
    assert answer.usage is not None
    assert_metered(strict_fleet, "/v1/responses", answer.usage.input_tokens)


def test_messages_stream(strict_fleet: Fleet, claude: anthropic.Anthropic) -> None:
    """`messages.stream` yields the text, and the real counts at its end."""
    with claude.messages.stream(model=MODEL, max_tokens=50, messages=SAY_HI) as stream:
        words = "".join(stream.text_stream)
        final = stream.get_final_message()

    assert (words, final.stop_reason, final.usage.output_tokens) == (TEXT, "end_turn", 5)
    assert_metered(strict_fleet, "/v1/messages", final.usage.input_tokens)


def test_messages_whole(strict_fleet: Fleet, claude: anthropic.Anthropic) -> None:
    """A whole message has its text and its usage."""
    answer = claude.messages.create(model=MODEL, max_tokens=50, messages=SAY_HI)

    (block,) = answer.content
    assert block.type == "text"
    assert block.text == TEXT
    assert_metered(strict_fleet, "/v1/messages", answer.usage.input_tokens)


def test_tokens_are_counted(strict_fleet: Fleet, claude: anthropic.Anthropic) -> None:
    """`count_tokens` returns a number and leaves no audit record."""
    claude.messages.create(model=MODEL, max_tokens=50, messages=SAY_HI)
    before = last_row(strict_fleet)
    long: Any = [{"role": "user", "content": "x" * 396}]

    assert claude.messages.count_tokens(model=MODEL, messages=long).input_tokens == 100
    assert last_row(strict_fleet) == before


@pytest.mark.parametrize("wants_usage", [False, True])
def test_chat_streams_have_usage_for_clients_that_ask(
    strict_fleet: Fleet,
    gpt: openai.OpenAI,
    wants_usage: bool,  # noqa: FBT001
) -> None:
    """Usage is always metered, but only a client that asks for it gets it."""
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(gpt.chat.completions.create(model=MODEL, messages=SAY_HI, stream=True, **options))

    seen = [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage]
    assert len(seen) == wants_usage
    assert all(chunk.choices for chunk in chunks) is not wants_usage
    assert_metered(strict_fleet, "/v1/chat/completions", last_row(strict_fleet)["prompt_tokens"])


def test_refusals_are_raised(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Each client raises its own exception, with the gateway's message and the request id."""
    with pytest.raises(openai.PermissionDeniedError, match="not available to this key"):
        gpt.responses.create(model="nobody-has-this", input="hi")
    with pytest.raises(anthropic.PermissionDeniedError, match="not available to this key") as no:
        claude.messages.create(model="nobody-has-this", max_tokens=5, messages=SAY_HI)
    with pytest.raises(anthropic.PermissionDeniedError):
        claude.messages.count_tokens(model="nobody-has-this", messages=SAY_HI)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required"):
        claude.messages.create(model=MODEL, max_tokens=0, messages=SAY_HI)
    search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(anthropic.PermissionDeniedError):
        claude.messages.create(model=MODEL, max_tokens=5, messages=SAY_HI, tools=search)
    assert isinstance(no.value.body, dict)
    assert no.value.body["request_id"] == no.value.response.headers["x-request-id"]


def _streams(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> list[Any]:
    return [
        gpt.chat.completions.create(model=MODEL, messages=SAY_HI, stream=True),
        gpt.completions.create(model=MODEL, prompt="hi", stream=True),
        gpt.responses.create(model=MODEL, input="hi", stream=True),
        claude.messages.create(model=MODEL, max_tokens=5000, messages=SAY_HI, stream=True),
    ]


def _raised(read: Callable[[], Iterable[Any]]) -> Exception:
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        for _ in read():
            pass
    return caught.value


def test_a_backend_that_dies_in_the_middle_is_raised(tmp_path: Path) -> None:
    """Every client raises if its stream is cut, and the audit record says so."""
    simulators = {"a": ("--model", MODEL, "--tokens", "5000", "--token-delay", "20ms")}
    with ExitStack() as stack:
        own = stack.enter_context(fleet(tmp_path, simulators))
        gpt, claude = (
            stack.enter_context(openai_client(own)),
            stack.enter_context(anthropic_client(own)),
        )
        streams = [stack.enter_context(closing(stream)) for stream in _streams(gpt, claude)]
        begun = [iter(stream) for stream in streams]
        for stream in begun:
            next(stream)
        own.simulators["a"].popen.kill()
        raised = [_raised(lambda stream=stream: stream) for stream in begun]  # type: ignore[misc]
        records = own.records(len(raised))

    assert [type(error) for error in raised[:3]] == [openai.APIError] * 3
    assert isinstance(raised[3], anthropic.APIStatusError)
    assert all("broke off" in str(error) for error in raised)
    assert {record["outcome"] for record in records} == {"upstream_failed"}
    assert {record["tokens_source"] for record in records} == {"counted"}
