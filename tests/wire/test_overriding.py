"""A bound that Ollama may read after the dialect's own: `options.num_predict` on `/v1`."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import measure_document, with_generation

ROUTES = {endpoint.path: endpoint.bounds for endpoint in INFERENCE if endpoint.bounds}
V1 = {path: fields for path, fields in ROUTES.items() if path.startswith("/v1/")}


def bounded(text: str, path: str, tokens: int = 7) -> str:
    """Return a body as it goes upstream."""
    raw, fields = text.encode(), ROUTES[path]
    measured = measure_document(parse(raw), len(raw), fields)
    assert measured.written != tokens, "it would be left alone"
    changed = with_generation(raw, fields[0], tokens, measured.overriding)
    assert isinstance(changed, bytes)
    return changed.decode()


@pytest.mark.parametrize("path", V1)
@pytest.mark.parametrize("name", ["options", "OPTIONS", "Option\u017f", "\\u006fptions"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('{"num_predict":99999}', '{"num_predict":7}'),
        ('{"num_predict":-1, "seed":1}', '{"num_predict":7, "seed":1}'),
        ('{"num_predict":1,"num_predict":99999}', '{"num_predict":7,"num_predict":7}'),
        ('{"NUM_PREDICT":9}', '{"NUM_PREDICT":7,"num_predict":7}'),
        ('{"num_predict":1,"Num_Predict":9}', '{"num_predict":7,"Num_Predict":7}'),
        ('{"num_predict":{"a":1}}', '{"num_predict":7}'),
        ('{"num_predict":null}', '{"num_predict":7}'),
        ('{"seed":1}', '{"seed":1}'),
        ("{}", "{}"),
        ("null", "null"),
        ('"num_predict"', '"num_predict"'),
    ],
)
def test_both_bounds_say_the_same(path: str, name: str, options: str, expected: str) -> None:
    """Both fields get the bound, whichever Ollama reads last; an absent one is not added."""
    field = V1[path][0][0]
    body = f'{{"model":"m","{name}":{options},"{field}":7,"x":1}}'
    if options == expected:
        raw = body.encode()
        assert measure_document(parse(raw), len(raw), V1[path]).written == 7
        return
    assert bounded(body, path) == f'{{"model":"m","{name}":{expected},"{field}":7,"x":1}}'


@pytest.mark.parametrize("path", V1)
def test_an_override_alone_sets_the_dialects_own_bound_too(path: str) -> None:
    """If only the override is given, the dialect's own field is added."""
    body = {"model": "m", "options": {"num_predict": 5}}
    raw = json.dumps(body).encode()
    assert measure_document(parse(raw), len(raw), V1[path]).asked == 5
    field = V1[path][0][0]
    found = json.loads(bounded(json.dumps(body), path, 5))
    assert found == {**body, field: 5}
    assert measure_document(parse(raw[:-1] + b',"%b":9}' % field.encode()), 9, V1[path]).asked == 9
