"""A gateway of one process, built and running: what reloads and drains work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.pausing import Pauses
from ollama_gateway.build_listeners import certificates_of
from ollama_gateway.configuration import (
    Configuration,
    Parts,
    configure,
    new_backends,
    put_in_force,
)
from ollama_gateway.http.listener import Listener
from ollama_gateway.server.admin import Admin
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.reload_handlers import Reloader
from ollama_gateway.settings import Settings
from ollama_gateway.watching import Watcher

if TYPE_CHECKING:
    from ollama_gateway.backends.shared import CatalogCopier


@attrs.define(eq=False)
class Gateway:
    """One process's gateway: its parts, and what the settings make of them now."""

    parts: Parts
    configuration: Configuration
    """In force; replaced by `adopt`."""
    app: App
    listener: Listener
    admin: Admin
    admin_app: App
    admin_listener: Listener
    watchers: Mapping[str, Watcher]
    copier: CatalogCopier | None
    pauses: Pauses

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    @property
    def backends(self) -> Backends:
        """The backends in force."""
        return self.parts.backends

    def prepare(self, settings: Settings) -> Configuration:
        """Build what other settings say, and change nothing; blocks. Raises TLSFilesBroken."""
        return configure(settings, self.parts, self.settings)

    def offer_reload(self, reloader: Reloader) -> None:
        """Let the admin listener reload the settings."""
        self.admin.reloader = reloader
        self.admin_app.config = AppConfig(self.admin.routes())

    async def adopt(self, configuration: Configuration) -> None:
        """Put a prepared configuration in force, at once, after a poll of its new backends."""
        await self.parts.discovery.poll_new(new_backends(configuration, self.parts))
        self.configuration = configuration
        left = put_in_force(configuration, self.parts, self.app, self.listener)
        self.admin.access, self.admin.names = configuration.access, configuration.exchange.names
        self.admin.readings.disk.certificates = certificates_of(configuration.settings)
        self.admin.state.settings_file = configuration.settings.source
        self.admin_app.config = AppConfig(self.admin.routes())
        for transport in left:
            await transport.retire()
