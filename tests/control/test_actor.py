"""Roles."""

from __future__ import annotations

import pytest

from ollama_gateway.control.actor import ROLES, Actor, Role


@pytest.mark.parametrize("needed", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_includes_those_below_it(role: Role, needed: Role) -> None:
    """Each role may do what the lower ones may, and nothing that needs a higher one."""
    assert Actor("x", role).may(needed) == (ROLES.index(needed) <= ROLES.index(role))
