"""What `gatewayctl probe` and `gatewayctl models` run: ask the backends, without a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Catalog, Listing, names, short_digest
from ollama_gateway.backends.discovery import PollFailed, poll
from ollama_gateway.build_backends import build_backends
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.cli.load_settings import load_or_exit
from ollama_gateway.cli.output import (
    count_of,
    exit_with,
    human_size,
    print_json,
    print_table,
    say,
)
from ollama_gateway.cli.table import Column, Row
from ollama_gateway.models.aliases import Aliases
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.settings.alias_table import show_alias
from ollama_gateway.settings.units import MAX_INT64

_PROBE_COLUMNS: Final = (
    Column("backend"),
    Column("url"),
    Column("state", is_prose=True),
    Column("version", 3),
    Column("ms", 2, is_number=True),
    Column("models", 1, is_number=True),
    Column("loaded", 4, is_number=True),
)
_MODEL_COLUMNS: Final = (Column("backend"), Column("model"), Column("size", 1, is_number=True))

_ALIAS_COLUMNS: Final = (
    Column("alias"),
    Column("models", is_prose=True),
    Column("if full the next", 1),
)


@attrs.frozen
class Probe:
    """The answer of one backend, or why there is none."""

    name: str
    url: str
    ok: bool
    version: str | None = None
    latency_ms: float | None = None
    models: list[str] = attrs.field(factory=list)
    loaded: list[str] = attrs.field(factory=list)
    error: str | None = None


def probe(config: Path | None, *, wide: bool, as_json: bool) -> int:
    """Ask every backend, print the answers, and return the exit code."""
    probes = probes_of(load_or_exit(config).settings)
    if as_json:
        print_json([attrs.asdict(report) for report in probes])
    else:
        print_table(_PROBE_COLUMNS, [_row(report) for report in probes], wide=wide)
    return 0 if all(report.ok for report in probes) else 1


def probes_of(settings: Settings) -> list[Probe]:
    """Probe the backends of the settings, in their order."""
    found = trio.run(probe_all, _backends(settings).all, settings.discovery.timeout)
    return [report for report, _listing in found]


def models(config: Path | None, *, wide: bool, as_json: bool) -> int:
    """Print the models of each backend and of all together, and return the exit code."""
    settings = load_or_exit(config).settings
    backends = _backends(settings)
    listings, cache = _shared_listings(settings, backends)
    if not listings:
        found = trio.run(probe_all, backends.all, settings.discovery.timeout)
        listings = {report.name: listing for report, listing in found if listing}
    catalog = Catalog.union(listings.items())
    hidden = [str(catalog.models[k]["name"]) for k in backends.hidden if k in catalog.models]
    union, mismatches = names(catalog.models.values()), _mismatches(catalog)
    sizes = {b.name: _sizes(listings.get(b.name)) for b in backends.all}
    if as_json:
        by_backend = {name: list(listed) for name, listed in sizes.items()}
        models = {"backends": by_backend, "union": union, "cache": cache, "drift": mismatches}
        aliases = {alias.name: show_alias(alias) for alias in settings.aliases.all}
        print_json({**models, "sizes": sizes, "aliases": aliases, "hidden": hidden})
    else:
        _print_models(sizes, union, cache, set(listings), wide=wide)
        _print_mismatches(mismatches)
        _print_aliases(settings.aliases, hidden)
    return 0 if len(listings) == len(backends.all) else 1


def _mismatches(catalog: Catalog) -> dict[str, dict[str, str]]:
    """Return the models whose digests differ, by listed name: the digest of each backend."""
    return {
        str(catalog.models[key]["name"]): dict(digests)
        for key, digests in catalog.digest_mismatches.items()
    }


async def probe_all(
    backends: tuple[Backend, ...], timeout: float
) -> list[tuple[Probe, Listing | None]]:
    """Probe all at once, each with its own deadline; results are in the order given."""
    found: dict[str, tuple[Probe, Listing | None]] = {}

    async def ask(backend: Backend) -> None:
        found[backend.name] = await _probe(backend, timeout)

    async with anyio.create_task_group() as probes:
        for backend in backends:
            probes.start_soon(ask, backend)
    return [found[backend.name] for backend in backends]


async def _probe(backend: Backend, timeout: float) -> tuple[Probe, Listing | None]:
    started = anyio.current_time()
    try:
        listing = await poll(backend, timeout)
    except PollFailed as failure:
        return Probe(backend.name, str(backend.url), ok=False, error=str(failure)), None
    report = Probe(
        backend.name,
        str(backend.url),
        ok=True,
        version=listing.version,
        latency_ms=round((anyio.current_time() - started) * 1000, 1),
        models=names(listing.models.values()),
        loaded=names(listing.running.values()),
    )
    return report, listing


def _backends(settings: Settings) -> Backends:
    try:
        return build_backends(settings)
    except TLSFilesBroken as error:
        exit_with(2, f"gatewayctl: {error}")


def _shared_listings(
    settings: Settings, backends: Backends
) -> tuple[dict[str, Listing], dict[str, Any]]:
    live = {"source": "live", "age_s": 0.0, "size": None}
    if settings.redis.url is None:
        return {}, live
    # Redis only where it is configured.
    from ollama_gateway.backends.shared import SharedCatalog  # noqa: PLC0415
    from ollama_gateway.storage.redis import RedisFailed  # noqa: PLC0415

    shared = SharedCatalog(settings.redis.url.reveal())
    try:
        copy = shared.read({backend.name: str(backend.url) for backend in backends.all})
    except RedisFailed as error:
        say(f"gatewayctl models: {error}, asking the backends", err=True)
        return {}, live
    if copy is None:
        return {}, {**live, "size": 0}
    cache = {"source": "redis", "age_s": round(copy.age, 1), "size": copy.size}
    return dict(copy.listings), cache


def _sizes(listing: Listing | None) -> dict[str, int | None]:
    """Return the bytes of each model, by listed name; None if the backend gives no number."""
    entries = listing.models.values() if listing else ()
    return {str(entry["name"]): _size(entry.get("size")) for entry in entries}


def _size(found: object) -> int | None:
    return found if type(found) is int and 0 <= found <= MAX_INT64 else None


def _row(report: Probe) -> Row:
    return (
        report.name,
        report.url,
        "up" if report.ok else f"down: {report.error}",
        report.version or "-",
        "-" if report.latency_ms is None else f"{report.latency_ms:.0f}",
        str(len(report.models)),
        str(len(report.loaded)),
    )


def _print_models(
    sizes: dict[str, dict[str, int | None]],
    union: list[str],
    cache: dict[str, Any],
    known: set[str],
    *,
    wide: bool,
) -> None:
    rows: list[Row] = []
    for name, listed in sizes.items():
        missing = "(no models)" if name in known else "(does not answer)"
        found = [(name, model, human_size(size)) for model, size in listed.items()]
        rows += found or [(name, missing, "-")]
    print_table(_MODEL_COLUMNS, rows, wide=wide)
    size = "no Redis" if cache["size"] is None else f"{cache['size']} in Redis"
    say(f"union: {count_of(len(union), 'model')}; source: {cache['source']}; {size}")


def _print_aliases(aliases: Aliases, hidden: list[str]) -> None:
    if aliases.all:
        rows = [
            (alias.name, ", ".join(m.short for m in alias.models), "yes" if alias.on_full else "-")
            for alias in aliases.all
        ]
        print_table(_ALIAS_COLUMNS, rows)
    for name in hidden:
        say(f"warning: an alias hides the model {printable(name)}", err=True)


def _print_mismatches(mismatches: dict[str, dict[str, str]]) -> None:
    if not mismatches:
        return
    rows = [
        (model, backend, short_digest(digest))
        for model, digests in mismatches.items()
        for backend, digest in digests.items()
    ]
    print_table([Column("differs"), Column("backend"), Column("digest")], rows)
