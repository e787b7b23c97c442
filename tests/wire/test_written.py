"""A bound that the body holds already, so the body can go as it is."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import measure_document
from tests.wire.scanning import with_generation

OPTIONS = (("options", "num_predict"),)
TOKENS = (("max_tokens",), ("max_completion_tokens",))


@pytest.mark.parametrize(
    ("body", "fields", "written"),
    [
        ('{"options": {"num_predict": 7}}', OPTIONS, 7),
        ('{"OPTIONS": {"num_predict": 7}}', OPTIONS, 7),
        ('{"options": {"num_predict": 1, "num_predict": 7}}', OPTIONS, 7),
        ('{"options": {"num_predict": 7, "num_predict": -1}}', OPTIONS, None),
        ('{"options": {"NUM_PREDICT": 7}}', OPTIONS, None),
        ('{"options": {"num_predict": 7.0}}', OPTIONS, None),
        ('{"options": {"num_predict": true}}', OPTIONS, None),
        ('{"options": {"num_predict": 0}}', OPTIONS, None),
        ('{"options": null}', OPTIONS, None),
        ('{"num_predict": 7}', OPTIONS, None),
        ('{"max_tokens": 7, "max_completion_tokens": 9}', TOKENS, 7),
        ('{"max_completion_tokens": 7}', TOKENS, None),
        ('{"max_tokens": "7"}', TOKENS, None),
        ('{"max_tokens": 7}', (), None),
    ],
)
def test_only_what_is_read_there_is_written(
    body: str, fields: tuple[tuple[str, ...], ...], written: int | None
) -> None:
    """The bound counts if Ollama reads just that integer: in its field, the last of several."""
    measured = measure_document(parse(body.encode()), len(body), fields)
    assert measured.written == written
    assert written is None or measured.asked == written


@pytest.mark.parametrize("body", ['{"options": {"num_predict": 7, "seed": 1}}', '{"max_tokens":7}'])
def test_to_write_it_would_change_nothing(body: str) -> None:
    """Writing the same bound changes nothing; skipping it saves 1/30 of a request's time."""
    field = OPTIONS[0] if "options" in body else TOKENS[0]
    assert json.loads(with_generation(body.encode(), field, 7)) == json.loads(body)
