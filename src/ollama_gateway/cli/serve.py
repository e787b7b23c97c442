"""What `gatewayctl serve` runs: the gateway, until SIGTERM or SIGINT.

`serve_command.py` imports it after the settings were loaded, so that help and mistakes in settings
do not wait for the whole gateway to be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import trio

from ollama_gateway import log_output
from ollama_gateway.build import Gateway
from ollama_gateway.cli.data_dir import faults_of, make_private
from ollama_gateway.cli.keys.store import location_in
from ollama_gateway.cli.load_settings import exit_on_problems
from ollama_gateway.cli.next_step import requests_with, with_config
from ollama_gateway.http.open_files import raise_file_limit
from ollama_gateway.keys.key import StoreAway, digest_of, utc_now
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.ledger.log import EXCHANGE
from ollama_gateway.ledger.summary import log_line
from ollama_gateway.log import get_logger
from ollama_gateway.printable import printable
from ollama_gateway.processes.serving import ProcessesFailed, serve_with_processes
from ollama_gateway.reloading import SettingsSource
from ollama_gateway.settings import Loaded, Settings, SettingsError, load
from ollama_gateway.storage.write_access import Trusted
from ollama_gateway.supervisor import freeze_loaded_objects, run_to_the_end, supervise
from ollama_gateway.systemd import notify_ready

NEXT_STEP: Final = "next step"
"""The event of a command to paste."""
SUMMARIES: Final[Mapping[str, log_output.Summary]] = {
    EXCHANGE: log_line,
    NEXT_STEP: lambda event: f"next: {event['command']}",
}

logger = get_logger("serve")


def serve(loaded: Loaded, config: Path | None, *, watch: bool = False) -> int:
    """Serve until a signal ends it, and return the exit code.

    Args:
        loaded: the settings.
        config: the file that the command line names, for reloads.
        watch: whether to reload when the file changes.

    """
    settings = loaded.settings
    trusted = Trusted.of_process()
    was_open = make_private(settings, trusted)
    exit_on_problems(faults_of(settings, trusted))
    writer = log_output.configure(settings.log.level, settings.log.format, summaries=SUMMARIES)
    for warning in [*loaded.warnings, *([was_open] if was_open else [])]:
        logger.warning("doubtful setting", warning=warning)
    for hint in loaded.hints:
        logger.info("hint", hint=hint)
    source = SettingsSource(
        partial(_read_again, config, Path.cwd()),
        partial(_log_as, writer),
        loaded.settings.source if watch else None,
        loaded,
    )
    return int(not run_to_the_end(partial(_serve, settings, source), writer, ProcessesFailed))


def _read_again(config: Path | None, directory: Path) -> Loaded:
    """Read the settings for a reload; raises SettingsError."""
    loaded = load(config, cwd=directory)
    if problems := faults_of(loaded.settings, Trusted.of_process()):
        raise SettingsError(tuple(problems))
    return loaded


def _log_as(writer: log_output.LineWriter, settings: Settings) -> None:
    log_output.configure(
        settings.log.level, settings.log.format, writer=writer, summaries=SUMMARIES
    )


def _serve(settings: Settings, source: SettingsSource) -> None:
    raise_file_limit()
    has_keys = _say_how_to_make_a_key(settings)
    _warn_of_redis(settings)
    if settings.server.processes > 1:
        announce = partial(_announce_processes, settings, has_keys=has_keys)
        trio.run(partial(serve_with_processes, settings, source, on_ready=announce))
    else:
        announced = partial(_announce, settings, has_keys=has_keys)
        trio.run(partial(supervise, settings, on_ready=announced, source=source))


def _say_how_to_make_a_key(settings: Settings) -> bool:
    """Log which key store is used, and how to make a first key; return whether there is one.

    The gateway starts even if the store cannot be reached: every request asks it again.
    """
    location = location_in(settings)
    shown = printable(str(location))
    try:
        with closing(location.open()) as store:
            store.check()
            keys = store.count_active()
            warning = _warning_of_anonymous_key(settings, store)
    except StoreAway as error:
        logger.warning("keys", store=shown, reason=f"{error}; until it is back, requests get 503")
        return False
    logger.info("keys", store=shown, active=keys)
    if warning:
        logger.warning("doubtful setting", warning=f"auth.anonymous_key: {warning}")
    if keys == 0:
        command = with_config("gatewayctl keys create NAME", settings)
        logger.warning(f"no API key yet: make one with `{command}`")  # noqa: G004 - text for people
    return keys > 0


def _warn_of_redis(settings: Settings) -> None:
    """Log what does not suit the gateway in the settings of Redis; nothing if it is away."""
    if settings.redis.url is None:
        return
    from ollama_gateway.storage.redis import doubts_of  # noqa: PLC0415 - only where configured

    for warning in doubts_of(settings.redis.url.reveal(), settings.redis.timeout):
        logger.warning("doubtful setting", warning=warning)


def _warning_of_anonymous_key(settings: Settings, store: KeyStore) -> str | None:
    """Return a warning about the key that anonymous clients get, if there is a reason for one."""
    if settings.auth.anonymous_key is None:
        return None
    (key,) = store.find([digest_of(settings.auth.anonymous_key.reveal())])
    if key is None or not key.is_active(utc_now()):
        return "is no active key of this store; until it is, clients without a key get 401"
    if "manage" in key.endpoints:
        return "may manage models, so any client in auth.anonymous_networks may do so"
    return None


def _announce(settings: Settings, gateway: Gateway, address: str, *, has_keys: bool) -> None:
    freeze_loaded_objects()
    notify_ready()
    up = sum(backend.is_up for backend in gateway.backends.all)
    logger.info(
        "serving",
        address=_url(settings, address),
        admin=f"http://{settings.server.admin_bind}",
        backends=len(gateway.backends.all),
        up=up,
        models=len(gateway.backends.catalog.models),
        limits=gateway.admin.limits.store.name,
        settings=_source(settings),
    )
    _say_what_is_next(settings, has_keys=has_keys)


def _announce_processes(settings: Settings, address: str, *, has_keys: bool) -> None:
    notify_ready()
    logger.info(
        "serving",
        address=_url(settings, address),
        admin=f"http://{settings.server.admin_bind}",
        processes=settings.server.processes,
        settings=_source(settings),
    )
    _say_what_is_next(settings, has_keys=has_keys)


def _url(settings: Settings, address: str) -> str:
    return f"{'https' if settings.server.tls_cert else 'http'}://{address}"


def _source(settings: Settings) -> str:
    return str(settings.source or "defaults and environment")


def _say_what_is_next(settings: Settings, *, has_keys: bool) -> None:
    """Log a first request on a terminal; without a key, the log has the command that makes one."""
    if has_keys and sys.stderr.isatty():
        request, _ = requests_with(settings, "KEY")
        logger.info(NEXT_STEP, command=request)
