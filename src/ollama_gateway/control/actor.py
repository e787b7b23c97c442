"""Who asks for something at the control surface, and what they may."""

from __future__ import annotations

from typing import Final

import attrs

from ollama_gateway.keys.admin_tokens import ROLES, Role

__all__ = ["LOCAL", "READER", "ROLES", "SETTINGS", "Actor", "Role"]


@attrs.frozen
class Actor:
    """A person or program that uses the control surface."""

    name: str
    """The name of its admin token; `settings` for the token of the settings, `local` for a command
    on the gateway's own machine, `-` for a reader without a token."""
    role: Role

    def may(self, needed: Role) -> bool:
        """Whether the actor's role includes the needed one."""
        return ROLES.index(self.role) >= ROLES.index(needed)


LOCAL: Final = Actor("local", "admin")
"""A command that works on the stores of its own machine."""
SETTINGS: Final = Actor("settings", "admin")
"""Has the token of the settings."""
READER: Final = Actor("-", "viewer")
"""Has no token, where none is needed to read."""
