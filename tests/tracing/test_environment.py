"""OpenTelemetry's variables: what they mean, and what wrong ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.settings import load
from ollama_gateway.tracing.environment import read_tracing

AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def test_nothing_is_exported_without_an_endpoint() -> None:
    """Other variables alone ask for nothing, and cause no warning."""
    assert read_tracing({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "?"}) == (None, [])


def test_all_that_can_be_set() -> None:
    """Each variable has its effect; those of traces come before the general ones."""
    found, warnings = read_tracing(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:1",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example/custom?x=1",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret, x-org = a ",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "250",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_SERVICE_NAME": "edge",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod%2Ceu,service.name=no",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    )

    assert warnings == []
    assert found is not None
    assert found.endpoint == "https://c.example/custom?x=1"
    assert found.headers == (("authorization", "Bearer s3cret"), ("x-org", "a"))
    assert "s3cret" not in repr(found)
    assert (found.timeout, found.service) == (0.25, "edge")
    assert found.attributes == (("deployment.environment.name", "prod,eu"),)
    assert (found.sampler.bound, found.sampler.honours_parent) == (2**62, True)


@pytest.mark.parametrize("end", ["", "/"])
def test_the_general_endpoint_is_a_base(end: str) -> None:
    """`/v1/traces` is added to it, and to no endpoint of traces alone."""
    found, _ = read_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318" + end})

    assert found is not None
    assert found.endpoint == "http://collector:4318/v1/traces"


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}],
)
def test_it_can_be_switched_off(variables: dict[str, str]) -> None:
    """An endpoint that is set for all programs does not bind this one."""
    assert read_tracing({**AT, **variables}) == (None, [])


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "carrier pigeon"])
def test_another_protocol_is_said(protocol: str) -> None:
    """Nothing is exported that the collector would not read, and one line says why."""
    found, warnings = read_tracing({**AT, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})

    assert found is None
    assert warnings == [
        "OTEL_EXPORTER_OTLP_PROTOCOL: only http/json is supported; no traces are exported"
    ]


@pytest.mark.parametrize(
    "endpoint",
    ["collector:4318", "ftp://c", "http://", "http://u:p4ss@c", "http://c:x", "http://c:0", "é"],
)
def test_a_wrong_endpoint_is_said(endpoint: str) -> None:
    """It is not repeated, since it may hold a password."""
    found, (warning,) = read_tracing({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint})

    assert found is None
    assert warning.startswith("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: is not a URL")
    assert "p4ss" not in warning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0d%0ainjected:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1e3"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9" * 5000),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9" * 9000),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_SDK_DISABLED", "yes"),
    ],
)
def test_a_wrong_value_is_said_and_does_no_harm(name: str, value: str) -> None:
    """One line names the variable, the default counts, and traces are exported."""
    found, (warning,) = read_tracing({**AT, name: value})
    default, _ = read_tracing(AT)

    assert found == default
    assert warning.startswith(f"{name}: ")
    assert len(warning) < 200


@pytest.mark.parametrize("ratio", ["x", "nan", "-0.1", "1.1", "inf"])
def test_a_wrong_ratio_is_said(ratio: str) -> None:
    """All traces are exported then, as OpenTelemetry says."""
    variables = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
    found, (warning,) = read_tracing({**AT, **variables})

    assert found is not None
    assert found.sampler.bound == 2**64
    assert warning.startswith("OTEL_TRACES_SAMPLER_ARG: ")


@given(st.dictionaries(st.sampled_from(["HEADERS", "TIMEOUT", "ENDPOINT", "PROTOCOL"]), st.text()))
def test_no_value_makes_it_raise(values: dict[str, str]) -> None:
    """Variables hold anything."""
    read_tracing({**AT, **{f"OTEL_EXPORTER_OTLP_TRACES_{k}": v for k, v in values.items()}})


def test_the_settings_carry_them_and_their_warnings(tmp_path: Path) -> None:
    """`.env` counts too; secrets among them are not shown."""
    (tmp_path / ".env").write_text("OTEL_EXPORTER_OTLP_HEADERS=authorization=s3cret\n")
    loaded = load(environ={**AT, "OTEL_TRACES_SAMPLER": "odd"}, cwd=tmp_path)

    assert dict(loaded.settings.otel)["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=s3cret"
    assert "s3cret" not in repr(loaded)
    assert [warning for warning in loaded.warnings if "OTEL" in warning] == [
        "OTEL_TRACES_SAMPLER: is no sampler that is supported; parentbased_always_on counts"
    ]
