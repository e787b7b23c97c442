"""All settings: name, default, unit and meaning.

The attributes have the units that the program works in: durations are seconds, sizes bytes, paths
are expanded, secrets are `SecretText`, and an optional value that is not set is None. The `Codec`
in an annotation (see `units.py`) converts from and to the form of a settings file. The modules that
build the gateway read these values; the modules below them get plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs

from ollama_gateway.models.aliases import NO_ALIASES, Aliases
from ollama_gateway.settings import addresses, units
from ollama_gateway.settings.addresses import ListenAddress
from ollama_gateway.settings.load_rules import ModelDefaultSettings, ModelSettings
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
PingDelay = Annotated[float | Literal["off"], Codec(units.ping_delay, show=units.show_seconds)]
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
LoggedShare = Annotated[float, Codec(units.logged_share, show=units.show_logged_share)]
LogFormat = Annotated[Literal["auto", "text", "json"], Codec(units.one_of("auto", "text", "json"))]


@attrs.frozen
class ServerSettings:
    """The listeners for clients and operators."""

    bind: Bind = attrs.field(default=ListenAddress("127.0.0.1", 11435))
    """The address clients connect to."""
    admin_bind: Bind = attrs.field(default=ListenAddress("127.0.0.1", 11436))
    """The address of /healthz, /readyz, /metrics, /status.json."""
    admin_token: SecretOrNone = None
    """Bearer token of the admin listener; required unless it listens on loopback."""
    admin_tls_cert: File = None
    """Certificate chain (PEM) of the admin listener; with `admin_tls_key`."""
    admin_tls_key: File = None
    """Private key (PEM) of the admin listener; with `admin_tls_cert`."""
    admin_hosts: Hosts = ()
    """Host names, besides loopback ones, with which the admin listener needs no token."""
    processes: Positive = 1
    """Operating system processes that serve; more than one needs Redis."""
    drain_timeout: Duration = 30.0
    """Seconds in which streams in flight may finish after SIGTERM."""
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
    """Client connections of one address at once; 0 is a quarter of `max_connections`."""
    allowed_origins: OriginPatterns = ()
    """Origins of the web pages that may read answers (CORS)."""
    trusted_proxies: Networks = ()
    """Networks whose `X-Forwarded-For` is trusted."""
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
    """Lower is tried first, equal ones form a tier; default: its position in the list, from 1."""
    slots: Count = 0
    """Requests at once; 0 is no cap."""
    auth_token: SecretOrNone = None
    """Sent to it as `Authorization: Bearer`."""
    headers: dict[str, SecretText] = attrs.field(factory=dict)
    """Further headers sent to it; their values are never shown."""
    models: Words = ("*",)
    """Globs of the models it serves."""
    ca_file: File = None
    """Certificates (PEM) that its own is checked against, instead of the system's."""
    client_cert: File = None
    """Certificate chain (PEM) presented to it; the key is in it or in `client_key`."""
    client_key: File = None
    """Private key (PEM) of `client_cert`."""
    verify: Flag = True
    """Whether its certificate is checked."""


@attrs.frozen
class DiscoverySettings:
    """The polling of backends."""

    interval: SomeDuration = 10.0
    """Seconds between two polls of a backend."""
    timeout: SomeDuration = 3.0
    """Seconds that a poll may take, and that the start may wait for the first polls."""


@attrs.frozen
class RaceSettings:
    """How a request gets a backend, and how long that may take."""

    hedge_after: HedgeDelay = 2.0
    """Seconds without a first chunk until the next backend is asked as well."""
    max_attempts: Positive = 3
    """Backends tried for one request, hedges included."""
    max_hedge_ratio: Ratio = 0.05
    """Hedges as a share of requests, 0 to 1."""
    queue_timeout: Duration = 120.0
    """Seconds a request may wait for a free slot."""
    connect_timeout: SomeDuration = 2.0
    """Seconds to connect to a backend, TLS included."""
    first_chunk_timeout: SomeDuration = 285.0
    """Seconds from arrival to the first chunk of a streamed answer, queue and attempts included."""
    ping_after: PingDelay = "off"
    """Seconds of silence before the first chunk, after which a comment goes into a stream."""
    idle_timeout: SomeDuration = 300.0
    """Seconds between two chunks of a stream."""
    total_timeout: SomeDuration = 1800.0
    """Seconds from arrival to the end of an answer."""


def _default_data_dir() -> Path:
    return addresses.path("~/.local/share/ollama-gateway")


@attrs.frozen
class AffinitySettings:
    """How conversations return to the backend that has them in its prefix cache."""

    enabled: Flag = True
    """Whether they do."""
    idle: SomeDuration = 900.0
    """Seconds after which an unused conversation is forgotten."""
    capacity: Positive = 8
    """Conversations that a backend keeps in its cache, where its answers do not show it."""


@attrs.frozen
class StorageSettings:
    """The files and the database that outlive the process."""

    data_dir: Directory = attrs.field(factory=_default_data_dir)
    """Directory of the SQLite files: keys, journal."""
    database_url: SecretOrNone = None
    """`postgresql://...`, for the keys of many machines."""
    allow_shared_data_dir: Flag = False
    """Whether other users may write to the directory, its files, and files with secrets."""


@attrs.frozen
class RedisSettings:
    """The Redis that several gateways share."""

    url: SecretOrNone = None
    """`redis://`, `rediss://` or `unix://`; a secret, as it may hold a password."""
    timeout: SomeDuration = 0.25
    """Seconds that it has for an answer, or for a connection."""


@attrs.frozen
class AuditSettings:
    """The audit log: one record for each request."""

    mode: AuditMode = "buffered"
    """`strict` refuses a request that cannot be recorded."""
    keep: SomeDuration = 400 * 86_400.0
    """Seconds that an audit record is kept."""
    chain_key: SecretOrNone = None
    """The key of the HMAC that chains the audit records."""


@attrs.frozen
class LimitSettings:
    """Limits of keys that have none of their own; 0 is no limit."""

    requests_per_minute: Count = 0
    """Requests in a window of 60 s."""
    concurrent_requests: Count = 0
    """Requests at once."""
    tokens_per_day: Count = 0
    """Tokens, prompt and answer, in a day."""
    tokens_per_month: Count = 0
    """Tokens, prompt and answer, in a month."""
    default_output_tokens: Positive = 4096
    """Tokens reserved for an answer whose length the client does not limit."""


@attrs.frozen
class AuthSettings:
    """Access without a key."""

    anonymous_networks: Networks = ()
    """Networks whose requests without a key are served as `anonymous_key`."""
    anonymous_key: SecretOrNone = None
    """The key whose limits and permissions they get."""


@attrs.frozen
class LogSettings:
    """The log on stderr."""

    level: LogLevel = "info"
    """The lowest level written."""
    format: LogFormat = "auto"
    """`auto`: text on a terminal, JSON lines otherwise."""
    requests: LoggedShare = 1.0
    """The share of requests, of those that did not fail, that have a line in the log."""


@attrs.frozen
class Settings:
    """All settings in force."""

    server: ServerSettings = ServerSettings()
    backends: tuple[BackendSettings, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    models_defaults: ModelDefaultSettings = attrs.field(factory=ModelDefaultSettings)
    discovery: DiscoverySettings = DiscoverySettings()
    race: RaceSettings = RaceSettings()
    affinity: AffinitySettings = AffinitySettings()
    storage: StorageSettings = attrs.field(factory=StorageSettings)
    redis: RedisSettings = RedisSettings()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    log: LogSettings = LogSettings()
    aliases: Aliases = NO_ALIASES
    """Names that stand for models."""
    otel: tuple[tuple[str, str], ...] = attrs.field(default=(), eq=False, repr=False)
    """OpenTelemetry's variables by name, if they say where traces go; they may hold secrets."""
    source: Path | None = attrs.field(default=None, eq=False)
    """The absolute path of the settings file; None if there is none. Equal settings may have
    different files."""


def fields_of(cls: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    """Return the attributes of a settings class, with resolved annotations."""
    return tuple(attrs.fields(attrs.resolve_types(cls)))


SECTIONS: Final[Mapping[str, type[Any]]] = {
    field.name: field.type
    for field in fields_of(Settings)
    if field.type is not None and attrs.has(field.type) and field.type is not Aliases
}
"""Every `[section]` of fixed keys and its class, in the order of the file."""
