"""Every setting there is: its name, its default, its unit, its meaning.

The attributes are typed in the units the program works in: durations are seconds, sizes bytes,
paths expanded, secrets `Secret`, nothing empty where None says it better. How a value is written
in TOML or in the environment is the business of the annotation (`Kind`, see `units.py`). These
values are read by `build.py` alone; what lies below it gets plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs

from ollama_gateway.settings import addresses, units
from ollama_gateway.settings.addresses import ListenAddress
from ollama_gateway.settings.secret import SecretText
from ollama_gateway.settings.units import Codec
from ollama_gateway.wire.networks import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

_count = units.number_from_text

Duration = Annotated[float, Codec(units.seconds, show=units.show_seconds)]
SomeDuration = Annotated[float, Codec(units.some_seconds, show=units.show_seconds)]
HedgeDelay = Annotated[
    float | Literal["auto", "off"], Codec(units.hedge_delay, show=units.show_seconds)
]
Size = Annotated[int, Codec(units.some_bytes, show=units.show_bytes)]
Count = Annotated[int, Codec(units.counted(0), _count)]
Positive = Annotated[int, Codec(units.counted(1), _count)]
Ratio = Annotated[float, Codec(units.ratio, _count)]
Flag = Annotated[bool, Codec(units.flag, units.flag_from_text)]
Words = Annotated[tuple[str, ...], Codec(units.words, units.list_from_text, list)]
Networks = Annotated[
    tuple[Network, ...],
    Codec(addresses.networks, units.list_from_text, lambda found: [str(n) for n in found]),
]
Hosts = Annotated[tuple[str, ...], Codec(addresses.hosts, units.list_from_text, list)]
OriginPatterns = Annotated[tuple[str, ...], Codec(addresses.origins, units.list_from_text, list)]
Bind = Annotated[ListenAddress, Codec(addresses.address, show=str)]
BackendName = Annotated[str, Codec(addresses.name)]
Url = Annotated[str, Codec(addresses.url)]
Directory = Annotated[Path, Codec(addresses.path, show=addresses.show_path)]
SecretOrNone = SecretText | None
File = Annotated[Path | None, Codec(addresses.path_or_none, show=addresses.show_path)]
AuditMode = Annotated[Literal["buffered", "strict"], Codec(units.one_of("buffered", "strict"))]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Codec(units.one_of("debug", "info", "warning", "error")),
]
LogFormat = Annotated[Literal["auto", "text", "json"], Codec(units.one_of("auto", "text", "json"))]


@attrs.frozen
class ServerSettings:
    """What clients and operators connect to."""

    bind: Bind = attrs.field(default=ListenAddress("127.0.0.1", 11435))
    """The address clients connect to."""
    admin_bind: Bind = attrs.field(default=ListenAddress("127.0.0.1", 11436))
    """The address of /healthz, /readyz, /metrics, /status.json."""
    admin_token: SecretOrNone = None
    """Bearer token of the admin listener; required when that is not on loopback."""
    admin_hosts: Hosts = ()
    """Names by which the admin listener may be asked without a token, besides loopback ones."""
    processes: Positive = 1
    """Operating system processes that serve; more than one needs Redis."""
    drain_timeout: Duration = 30.0
    """Seconds that streams in flight have to finish after SIGTERM."""
    max_body: Size = 64 * 2**20
    """Bytes of one request's body."""
    max_body_total: Size = 2**30
    """Bytes of all bodies held at once."""
    max_json_containers: Positive = 100_000
    """JSON objects and arrays in one request's body."""
    max_answers_total: Size = 256 * 2**20
    """Bytes of whole answers held at once."""
    max_connections: Positive = 4096
    """Client connections at once."""
    max_connections_per_address: Count = 0
    """Of them, those of one address; 0 is a quarter."""
    allowed_origins: OriginPatterns = ()
    """Origins of the web pages that may read answers (CORS)."""
    trusted_proxies: Networks = ()
    """Networks whose `X-Forwarded-For` is believed."""
    tls_cert: File = None
    """Certificate chain (PEM) of the client listener; with `tls_key`."""
    tls_key: File = None
    """Private key (PEM) of the client listener; with `tls_cert`."""
    expose_backend: Flag = False
    """Whether responses name their backend in `X-Gateway-Backend`."""


@attrs.frozen
class BackendSettings:
    """One Ollama server."""

    name: BackendName
    """Its name in logs, metrics and commands; unique."""
    url: Url
    """Its base URL, http or https, without a trailing slash; a path is a prefix."""
    priority: Count = 1
    """Lower is tried first, equal ones form a tier; by default its place in the list, from 1."""
    slots: Count = 0
    """Requests at once; 0 is no cap."""
    auth_token: SecretOrNone = None
    """Sent to it as `Authorization: Bearer`."""
    headers: dict[str, SecretText] = attrs.field(factory=dict)
    """Further headers sent to it; values are never shown."""
    models: Words = ("*",)
    """Globs of the models it is used for."""
    ca_file: File = None
    """Certificates (PEM) its own is checked against, in place of the system's."""
    client_cert: File = None
    """Certificate chain (PEM) shown to it, with the key in it or in `client_key`."""
    client_key: File = None
    """Private key (PEM) of `client_cert`."""
    verify: Flag = True
    """Whether its certificate is checked at all."""


@attrs.frozen
class DiscoverySettings:
    """How backends are polled."""

    interval: SomeDuration = 10.0
    """Seconds between two polls of a backend."""
    timeout: SomeDuration = 3.0
    """Seconds a poll may take, and the start may wait for the first ones."""


@attrs.frozen
class RaceSettings:
    """How a request finds the backend that answers it."""

    hedge_after: HedgeDelay = 2.0
    """Seconds without a first chunk until the next backend starts beside the first."""
    max_attempts: Positive = 3
    """Backends tried for one request, hedges included."""
    max_hedge_ratio: Ratio = 0.05
    """Hedges as a share of requests, 0 to 1."""
    queue_timeout: Duration = 120.0
    """Seconds a request may wait for a free slot."""
    connect_timeout: SomeDuration = 2.0
    """Seconds to connect to a backend, TLS included."""
    first_chunk_timeout: SomeDuration = 285.0
    """Seconds from arrival to the first chunk of a streamed answer, over queue and attempts."""
    idle_timeout: SomeDuration = 300.0
    """Seconds between two chunks of a stream."""
    total_timeout: SomeDuration = 1800.0
    """Seconds from arrival to the end of an answer."""


def _default_data_dir() -> Path:
    return addresses.path("~/.local/share/ollama-gateway")


@attrs.frozen
class StorageSettings:
    """Where the gateway keeps what must survive it."""

    data_dir: Directory = attrs.field(factory=_default_data_dir)
    """Directory of the SQLite files: keys, journal."""
    database_url: SecretOrNone = None
    """`postgresql://...`, for the keys of many machines."""
    allow_shared_data_dir: Flag = False
    """Whether other users may write the directory, its files, and files with secrets."""


@attrs.frozen
class RedisSettings:
    """What several gateways share."""

    url: SecretOrNone = None
    """`redis://`, `rediss://` or `unix://`; a secret, as it may hold a password."""


@attrs.frozen
class AuditSettings:
    """The trail of who asked what."""

    mode: AuditMode = "buffered"
    """`strict` refuses to serve what it could not record."""
    keep: SomeDuration = 400 * 86_400.0
    """Seconds a row is kept."""
    chain_key: SecretOrNone = None
    """Rows are chained by an HMAC with this key."""


@attrs.frozen
class LimitSettings:
    """The limits of keys that set none of their own; 0 is none."""

    requests_per_minute: Count = 0
    """Requests in a window of 60 s."""
    concurrent_requests: Count = 0
    """Requests at once."""
    tokens_per_day: Count = 0
    """Tokens, prompt and answer, in a day."""
    tokens_per_month: Count = 0
    """Tokens, prompt and answer, in a month."""
    default_output_tokens: Positive = 4096
    """Tokens reserved where a client with a token budget bounds nothing."""


@attrs.frozen
class AuthSettings:
    """Who may come without a key."""

    anonymous_networks: Networks = ()
    """Networks whose requests without a key are served as `anonymous_key`."""
    anonymous_key: SecretOrNone = None
    """The key they are served as."""


@attrs.frozen
class LogSettings:
    """What is written to stderr."""

    level: LogLevel = "info"
    """The least level written."""
    format: LogFormat = "auto"
    """`auto`: text on a terminal, JSON lines otherwise."""


@attrs.frozen
class Settings:
    """All settings, as they are in force."""

    server: ServerSettings = ServerSettings()
    backends: tuple[BackendSettings, ...] = ()
    discovery: DiscoverySettings = DiscoverySettings()
    race: RaceSettings = RaceSettings()
    storage: StorageSettings = attrs.field(factory=StorageSettings)
    redis: RedisSettings = RedisSettings()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    log: LogSettings = LogSettings()


def fields_of(cls: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    """The attributes of a class of settings, their annotations resolved."""
    return tuple(attrs.fields(attrs.resolve_types(cls)))


SECTIONS: Final[Mapping[str, type[Any]]] = {
    field.name: field.type
    for field in fields_of(Settings)
    if field.name != "backends" and field.type is not None
}
"""Every `[section]` and its class, in the order of the file; `[[backends]]` stands apart."""
