"""An operator who asks the admin API of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from tests.support.scenario import Reply, Scenario

TOKEN: Final = "operators-only-token"
PROBLEM: Final = "application/problem+json"


@attrs.frozen
class Operator:
    """Asks with the token of the settings."""

    scenario: Scenario

    async def ask(
        self,
        method: str,
        path: str,
        body: object = b"",
        *,
        key: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask for a path below `/admin/v1`, and return the answer."""
        return await self.scenario.ask(
            f"/admin/v1{path}", body, method=method, key=key, headers=headers or {}, is_admin=True
        )
