"""The checks of a request before its handler acts, in Ollama's order."""

from __future__ import annotations

from typing import Any

from ollama_gateway.simulator import clock
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.gojson import decode
from ollama_gateway.simulator.gotypes import BadBody, Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import InvalidName, Name, parse

CLOUD = "ollama cloud is disabled: remote model is unavailable"
CLOUD_DETAILS = "ollama cloud is disabled: remote model details are unavailable"
HTTPS = "https"

Fields = dict[str, Any]
_RELOADING = (
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"),
    "draft_num_predict",
)
"""Options in `needsReload` of server/sched.go."""


def native_fields(body: bytes, shape: Shape) -> Fields:
    """Decode the body of a native request.

    Raises:
        Refusal: 400 with Go's text.

    """
    try:
        return decode(body, shape)
    except BadBody as error:
        message = "missing request body" if str(error) == "EOF" else str(error)
        raise Refusal(400, message) from None


def openai_fields(body: bytes, shape: Shape) -> Fields:
    """Decode the body of a `/v1` request.

    Raises:
        Refusal: 400 with Go's text, raised early.

    """
    try:
        return decode(body, shape)
    except BadBody as error:
        raise Refusal(400, str(error), is_early=True) from None


def keep_alive(fields: Fields) -> float | None:
    """Return the seconds a request asks for (inf: for ever), or None."""
    return clock.keep_alive(fields["keep_alive"]) if "keep_alive" in fields else None


def load_options(fields: Fields) -> Fields:
    """Return the options in which two requests must agree to share a runner."""
    options = fields.get("options") or {}
    named = {name: options[name] for name in _RELOADING if options.get(name) is not None}
    return named | ({"shift": fields["shift"]} if fields.get("shift") is not None else {})


def name_of(text: str) -> Name:
    """Read the name in a request; https is the only scheme allowed.

    Raises:
        Refusal: 400 if it is no name.

    """
    scheme, separator, _ = text.strip().partition("://")
    if separator and scheme != HTTPS:
        raise Refusal(400, "invalid model name")
    try:
        return parse(text)
    except InvalidName as error:
        raise Refusal(400, str(error)) from None


def find(
    library: Library, text: str, missing: str, *, exact: bool = False, cloud: str = CLOUD
) -> Model:
    """Return the model a request names.

    Args:
        library: where to look.
        text: the name as sent.
        missing: the text of the 404.
        exact: compare with regard to case.
        cloud: the text of the 403 for a cloud model that is not hosted.

    Raises:
        Refusal: 400, 403 or 404.

    """
    name = name_of(text)
    model = library.find(name, exact=exact)
    if model is None and name.cloud:
        raise Refusal(403, cloud, is_native=True)
    if model is None:
        raise Refusal(404, missing)
    return model


def runnable(library: Library, text: str, missing: str, *, exact: bool = False) -> Model:
    """Return the model that is to run a request.

    Raises:
        Refusal: 400, 403 or 404.

    """
    model = find(library, text, missing, exact=exact)
    if model.remote:
        raise Refusal(403, CLOUD)
    return model


def check_abilities(model: Model, text: str, fields: Fields, verb: str) -> None:
    """Refuse a request that the model lacks the capability for.

    Raises:
        Refusal: 400.

    """
    if "completion" not in model.capabilities:
        raise Refusal(400, f'"{text}" does not support {verb}')
    for field, ability in (("tools", "tools"), ("suffix", "insert")):
        if fields.get(field) and ability not in model.capabilities:
            raise Refusal(400, f"{parse(model.name).full} does not support {ability}")
    if fields.get("think") not in (None, False) and "thinking" not in model.capabilities:
        raise Refusal(400, f'"{text}" does not support thinking')
