"""Traces of a real gateway, and its end beside collectors that are there or not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.smoke.asking import CHAT, ask
from tests.smoke.fleet import Fleet, ctl, fleet
from tests.smoke.processes import COUNT, several
from tests.smoke.test_drain import remainder_of
from tests.smoke.test_processes import shared_out
from tests.tracing.collectors import collecting, misbehaving
from tests.tracing.otlp_rules import values
from tests.tracing.test_collector import is_silent


def chat(started: Fleet) -> str:
    """Ask for a chat; return the id of the request."""
    answer = ask(started.port, "/api/chat", started.key, CHAT)
    assert answer.status == 200
    return answer.request_id


def test_a_chat_is_traced_from_the_log_to_the_collector(tmp_path: Path) -> None:
    """The log, `audit show` and the spans have one trace id, and the end loses no span."""
    with (
        collecting() as collector,
        fleet(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as started,
    ):
        request_id = chat(started)
        [line] = started.records(1)
        shown = started.ctl("audit", "show", request_id).stdout
        assert started.gateway.stop() == 0

    assert collector.faults == []
    server, client = collector.spans
    assert {server["traceId"], client["traceId"]} == {line["trace_id"]}
    assert f"trace        {line['trace_id']}\n" in shown
    assert values(server)["ollama_gateway.request.id"] == request_id
    assert values(client)["server.address"] == "127.0.0.1"


def test_a_dead_collector_costs_no_request_anything(tmp_path: Path) -> None:
    """Requests are served, the gateway ends well, and the log counts the spans that are lost."""
    with (
        misbehaving(is_silent) as url,
        fleet(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url) as started,
    ):
        for _ in range(3):
            chat(started)
        assert started.gateway.stop() == 0
        lines = "".join(started.gateway.lines)

    assert '"traces are lost at the end"' in lines
    assert '"requests": 3' in lines


def test_each_of_several_processes_exports_its_own(tmp_path: Path) -> None:
    """No span is lost, and each process has an identity of its own."""
    with (
        collecting() as collector,
        several(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as started,
        ExitStack() as stack,
    ):
        chats = shared_out(stack, started)
        for client in chats:
            assert b'"done":true' in remainder_of(client)
        assert started.gateway.stop() == 0

    assert collector.faults == []
    assert len(collector.instances) == COUNT
    assert len(collector.spans) == 2 * len(chats)


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: only http/json is supported; no traces are exported",
        ),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"},
            "OTEL_EXPORTER_OTLP_HEADERS: must be name=value,name=value; it is ignored",
        ),
    ],
)
def test_a_wrong_variable_is_one_line(
    variables: dict[str, str], warning: str, tmp_path: Path
) -> None:
    """`config check` says it, and its exit code stays 0: the gateway starts."""
    at = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OLLAMA_BACKENDS": "a=http://a"}
    data = {"GATEWAY_STORAGE_DATA_DIR": str(tmp_path)}
    done = ctl("config", "check", environment={**at, **data, **variables})

    assert done.returncode == 0
    assert f"warning: {warning}\n" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
