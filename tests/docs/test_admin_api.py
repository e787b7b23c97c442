"""The page of the admin API has its reference."""

from __future__ import annotations

import pytest

from tests.docs.admin_api import PAGE, operations, page


@pytest.mark.virtual_time
async def test_the_reference_is_that_of_the_operations() -> None:
    """The page is as `python -m tests.docs.admin_api` writes it."""
    assert PAGE.read_text() == page(await operations())
