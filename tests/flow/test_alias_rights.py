"""An alias gives a key nothing that it has no right to."""

from __future__ import annotations

import json
from functools import partial

import pytest

from ollama_gateway.flow.endpoints import Endpoint
from tests.flow.test_authority import ROUTES, admitted, assert_is_authorised, outcome_of


@pytest.mark.parametrize("endpoint", ROUTES, ids=lambda endpoint: endpoint.path)
@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("gpt-4o", ["m1:latest", "me/m2:v1"]),
        (" GPT-4o:LATEST ", ["m1:latest", "me/m2:v1"]),
        ("granted", ["m3:latest"]),
        ("own", ["m1:latest"]),
        ("claude-haiku-4-5-20251001", ["me/m2:v1"]),
        *(
            (closed, [])
            for closed in ("closed", "closed-1", "far", "claude-closed-1", "m3", "far:1")
        ),
    ],
)
def test_an_alias_reaches_only_models_that_the_key_may_use(
    endpoint: Endpoint, name: str, models: list[str]
) -> None:
    """Models without a right are skipped, cloud models too where only the alias is allowed."""
    body = json.dumps({"model": name}).encode()
    if not models:
        assert outcome_of(partial(admitted, endpoint, body)) == "model_not_allowed"
        return
    call = admitted(endpoint, body)

    assert [model.short for model in call.models] == models
    assert assert_is_authorised(call) == "served"
