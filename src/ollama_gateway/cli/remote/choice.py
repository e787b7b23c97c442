"""Which gateway a command is for: this machine's, by its settings, or one that is asked by HTTP.

`--server` or `--context` names one, `--config` the one of this machine's settings; without any of
them `$GATEWAYCTL_CONTEXT` does, or the context in use, or else it is this machine's. Two of these
options at once are a mistake, since each names another gateway.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.cli.lines import exit_with, say
from ollama_gateway.cli.remote import VARIABLE
from ollama_gateway.printable import printable

if TYPE_CHECKING:
    from ollama_gateway.cli.remote.address import AdminAddress
    from ollama_gateway.cli.remote.contexts import Contexts, GatewayContext


def path_of_contexts() -> Path:
    """Return the path of the file of contexts; it need not exist."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # as the XDG specification has it
        try:
            base = Path.home() / ".config"
        except RuntimeError:  # a user without a name or a home, as in containers
            base = Path("/nonexistent")
    return base / "gatewayctl" / "contexts.json"


@attrs.frozen
class GatewayChoice:
    """What the command line says about it."""

    config: Path | None = None
    server: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    context: str | None = None

    def admin(self) -> AdminAddress:
        """Return where to ask the chosen gateway, be it far or near; exit with code 2 on faults."""
        from ollama_gateway.cli.load_settings import load_or_exit  # noqa: PLC0415 - near ones
        from ollama_gateway.cli.remote.address import AdminAddress  # noqa: PLC0415

        far = self.remote()
        if far is not None:
            return far
        return AdminAddress.of_settings(load_or_exit(self.config).settings.server)

    def remote(self) -> AdminAddress | None:
        """Return where to ask a gateway by HTTP; None if it is this machine's.

        A context that was not named on the command line is named on stderr. Exit with code 2 on
        faults.
        """
        self._check()
        if self.config is not None:
            return None
        if self.server is not None:
            return _address(self.server, self.token_file, self.ca_file)
        variable = os.environ.get(VARIABLE)
        if self.context is None and not variable and not os.path.lexists(path_of_contexts()):
            return None  # the usual case, without a further import
        context = self._context(variable)
        if context is None:
            return None
        return _address(context.server, context.token_file, context.ca_file)

    def _check(self) -> None:
        """Exit with code 2 if two options name a gateway, or one lacks another."""
        given = {"--config": self.config, "--server": self.server, "--context": self.context}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            exit_with(2, f"gatewayctl: {' and '.join(named)} each name a gateway: give one of them")
        if self.server is None and (self.token_file or self.ca_file):
            exit_with(2, "gatewayctl: --token-file and --ca-file go with --server")

    def _context(self, variable: str | None) -> GatewayContext | None:
        from ollama_gateway.cli.remote.contexts import (  # noqa: PLC0415 - only where there are any
            ContextsBroken,
            read_contexts,
        )

        try:
            contexts = read_contexts()
        except ContextsBroken as error:
            exit_with(2, f"gatewayctl: {error}")
        if self.context is not None:
            return _named(contexts, self.context)
        if variable:
            return _told(_named(contexts, variable), f"${VARIABLE}")
        if contexts.in_use is None:
            return None
        return _told(_named(contexts, contexts.in_use), f"context {contexts.in_use}")


def _address(server: str, token_file: Path | None, ca_file: Path | None) -> AdminAddress:
    from ollama_gateway.cli.remote.address import (  # noqa: PLC0415 - as above
        AdminAddress,
        WrongChoice,
    )

    try:
        return AdminAddress.of_url(server, token_file, ca_file)
    except WrongChoice as error:
        exit_with(2, f"gatewayctl: {error}")


def _named(contexts: Contexts, name: str) -> GatewayContext:
    if name not in contexts.by_name:
        exit_with(2, f"gatewayctl: {unknown_context(name, contexts)}")
    return contexts.by_name[name]


def _told(context: GatewayContext, source: str) -> GatewayContext:
    """Say which gateway is meant where the command line does not: it may be the wrong one."""
    say(f"gateway: {printable(context.server)} ({printable(source)})", err=True)
    return context


def unknown_context(name: str, contexts: Contexts) -> str:
    """Return a line about a name that no context has."""
    from ollama_gateway.settings.units import shown  # noqa: PLC0415 - seldom
    from ollama_gateway.suggestions import did_you_mean  # noqa: PLC0415

    near = did_you_mean(name, contexts.by_name)
    return f"no context is named {shown(name)}{near}: see `gatewayctl context list`"


HERE = GatewayChoice()
"""The choice of a command line that says nothing."""
