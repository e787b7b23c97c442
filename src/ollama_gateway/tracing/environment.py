"""Reads OpenTelemetry's variables: whether to export traces, where to, and which.

Sources: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/. These variables are often set for all
programs of a machine, so a wrong value never keeps the gateway from starting: a warning names the
variable, and the default counts, or nothing is traced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from ollama_gateway.tracing.sampling import Sampler

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL: Final = "http/json"
"""The only one that the gateway speaks."""
DEFAULT_TIMEOUT: Final = 10.0
MAX_TIMEOUT: Final = 60.0
"""Seconds."""
MAX_VALUE: Final = 8192
"""Characters of a variable."""
_TIMEOUT: Final = re.compile(r"[0-9]{1,6}")
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
"""The characters of a header's name (RFC 9110, 5.6.2)."""
_OWN_HEADERS: Final = {"connection", "content-length", "content-type", "host", "transfer-encoding"}


@attrs.frozen
class TracingSettings:
    """Where traces go, and which."""

    endpoint: str
    """The URL that spans are posted to."""
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Sent with every post; may hold credentials."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for one post."""
    service: str = "ollama-gateway"
    attributes: tuple[tuple[str, str], ...] = ()
    """Of the resource, besides the service."""
    sampler: Sampler = attrs.field(factory=Sampler)


@attrs.frozen
class _Variables:
    environ: Mapping[str, str]
    warnings: list[str]

    def value(self, *names: str) -> tuple[str, str]:
        """Return the first of these variables that is set, and its value; empty if none is."""
        for name in names:
            if value := self.environ.get(name, "").strip():
                if len(value) <= MAX_VALUE:
                    return name, value
                self.warn(name, "is too long and is ignored")
        return names[-1], ""

    def of_traces(self, suffix: str) -> tuple[str, str]:
        return self.value(f"OTEL_EXPORTER_OTLP_TRACES_{suffix}", f"OTEL_EXPORTER_OTLP_{suffix}")

    def warn(self, name: str, problem: str) -> None:
        self.warnings.append(f"{name}: {problem}")


def read_tracing(environ: Mapping[str, str]) -> tuple[TracingSettings | None, list[str]]:
    """Return where traces go, or None if they are off, and warnings `NAME: message`."""
    variables = _Variables(environ, [])
    settings = _settings(variables)
    return settings, variables.warnings


def _settings(variables: _Variables) -> TracingSettings | None:
    endpoint = _endpoint(variables)
    if endpoint is None or _is_disabled(variables) or not _is_spoken(variables):
        return None
    name, attributes = _attributes(variables)
    return TracingSettings(
        endpoint,
        _headers(variables),
        _timeout(variables),
        name,
        attributes,
        _sampler(variables),
    )


def _endpoint(variables: _Variables) -> str | None:
    name, value = variables.value(TRACES_ENDPOINT, ENDPOINT)
    if not value:
        return None
    if not _is_url(value):
        # Not repeated: it may hold a password.
        variables.warn(name, "is not a URL like http://collector:4318; no traces are exported")
        return None
    return value if name == TRACES_ENDPOINT else value.rstrip("/") + "/v1/traces"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    has_extras = parts.username is not None or parts.fragment
    return bool(
        is_plain and parts.scheme in {"http", "https"} and parts.hostname and not has_extras
    ) and (port != 0)


def _is_disabled(variables: _Variables) -> bool:
    name, value = variables.value("OTEL_SDK_DISABLED")
    if value.lower() not in {"", "true", "false"}:
        variables.warn(name, "must be true or false; it counts as false")
    _, exporter = variables.value("OTEL_TRACES_EXPORTER")
    return value.lower() == "true" or exporter.lower() == "none"


def _is_spoken(variables: _Variables) -> bool:
    name, value = variables.of_traces("PROTOCOL")
    if value in {"", PROTOCOL}:
        return True
    variables.warn(name, f"only {PROTOCOL} is supported; no traces are exported")
    return False


def _headers(variables: _Variables) -> tuple[tuple[str, str], ...]:
    name, value = variables.of_traces("HEADERS")
    pairs = _pairs(value)
    if pairs is None or not all(
        key and set(key) <= _TOKEN and text.isascii() and text.isprintable() for key, text in pairs
    ):
        variables.warn(name, "must be name=value,name=value; it is ignored")
        return ()
    return tuple((key.lower(), text) for key, text in pairs if key.lower() not in _OWN_HEADERS)


def _timeout(variables: _Variables) -> float:
    name, value = variables.of_traces("TIMEOUT")
    if not value:
        return DEFAULT_TIMEOUT
    if not (_TIMEOUT.fullmatch(value) and 0 < int(value) <= MAX_TIMEOUT * 1000):
        variables.warn(name, f"must be 1 to {MAX_TIMEOUT * 1000:.0f} (ms); 10000 counts")
        return DEFAULT_TIMEOUT
    return int(value) / 1000


def _attributes(variables: _Variables) -> tuple[str, tuple[tuple[str, str], ...]]:
    name, value = variables.value("OTEL_RESOURCE_ATTRIBUTES")
    pairs = _pairs(value)
    if pairs is None or not all(key for key, _ in pairs):
        variables.warn(name, "must be key=value,key=value; it is ignored")
        pairs = []
    given = dict(pairs)
    named = given.pop("service.name", "")
    _, service = variables.value("OTEL_SERVICE_NAME")
    return _text(service or named or "ollama-gateway"), tuple(given.items())


def _sampler(variables: _Variables) -> Sampler:
    name, value = variables.value("OTEL_TRACES_SAMPLER")
    argument, text = variables.value("OTEL_TRACES_SAMPLER_ARG")
    ratio = _ratio(text)
    if ratio is None:
        if "ratio" in value:
            variables.warn(argument, "must be a number from 0 to 1; 1 counts")
        ratio = 1.0
    found = Sampler.of(value or "parentbased_always_on", ratio)
    if found is None:
        variables.warn(name, "is no sampler that is supported; parentbased_always_on counts")
        return Sampler()
    return found


def _ratio(text: str) -> float | None:
    """Return a ratio, 1 if none is given; None if it is none."""
    try:
        ratio = float(text or 1)
    except ValueError:
        return None
    return ratio if math.isfinite(ratio) and 0 <= ratio <= 1 else None


def _pairs(text: str) -> list[tuple[str, str]] | None:
    """Read `name=value,name=value`, values percent-encoded as in W3C Baggage; None if malformed."""
    found = []
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, value = item.partition("=")
        if not equals:
            return None
        found.append((_text(unquote(name.strip())), _text(unquote(value.strip()))))
    return found


def _text(text: str) -> str:
    """Return text without lone surrogates, which an environment can hold and JSON cannot."""
    return text.encode("utf-8", "replace").decode()
