"""What the handlers have to check in a request before they act, in the order Ollama checks it."""

from __future__ import annotations

import math
import string
from typing import Any

from ollama_gateway.simulator import clock
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.gojson import BadBody, Shape, decode
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import InvalidName, Name, parse

CLOUD = "ollama cloud is disabled: remote model is unavailable"
CLOUD_DETAILS = "ollama cloud is disabled: remote model details are unavailable"
THINK = (True, False, "high", "medium", "low", "max")
MAX_TOP_LOGPROBS = 20
BASE64 = frozenset(string.ascii_letters + string.digits + "+/\r\n")

_INTEGERS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "draft_num_predict",
)
_FLOATS = (
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)

Fields = dict[str, Any]


def native_fields(body: bytes, shape: Shape) -> Fields:
    """Decode the body of a native request.

    Raises:
        Refusal: 400 with Go's text.

    """
    try:
        fields = decode(body, shape)
    except BadBody as error:
        message = "missing request body" if str(error) == "EOF" else str(error)
        raise Refusal(400, message) from None
    _check_decoded(fields)
    return fields


def openai_fields(body: bytes, shape: Shape) -> Fields:
    """Decode the body of a `/v1` request.

    Raises:
        Refusal: 400 with Go's text, raised early.

    """
    try:
        return decode(body, shape)
    except BadBody as error:
        raise Refusal(400, str(error), is_early=True) from None


def _check_decoded(fields: Fields) -> None:
    """Refuse what already fails while Go decodes: a bad `think`, `keep_alive` or image."""
    messages = fields.get("messages", [])
    for holder in [fields, *(message for message in messages if isinstance(message, dict))]:
        for image in holder.get("images") or []:
            _check_image(image)
    if "think" in fields and fields["think"] not in THINK:
        raise Refusal(
            400,
            f'invalid think value: "{fields["think"]}"'
            ' (must be "high", "medium", "low", "max", true, or false)',
        )
    keep_alive(fields)


def _check_image(image: object) -> None:
    """Refuse what is not base64, with the place where Go stops reading it."""
    text = image if isinstance(image, str) else ""
    bare = text.rstrip("=")
    strange = next((place for place, char in enumerate(bare) if char not in BASE64), None)
    if strange is None and len(text) % 4:
        strange = len(text) // 4 * 4
    if strange is not None:
        raise Refusal(400, f"illegal base64 data at input byte {strange}")


def keep_alive(fields: Fields) -> float | None:
    """Give the seconds a request asks for (inf: for ever), or None."""
    if "keep_alive" not in fields:
        return None
    try:
        return clock.keep_alive(fields["keep_alive"])
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def name_of(text: str) -> Name:
    """Read the name in a request.

    Raises:
        Refusal: 400 for what is no name.

    """
    try:
        return parse(text)
    except InvalidName as error:
        raise Refusal(400, str(error)) from None


def find(
    library: Library, text: str, missing: str, *, exact: bool = False, cloud: str = CLOUD
) -> Model:
    """Give the model a request names.

    Args:
        library: where to look.
        text: the name as sent.
        missing: the text of the 404.
        exact: compare with regard to case.
        cloud: the text of the 403 for a cloud model that is not here.

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
    """Give the model a request is to be run by.

    Raises:
        Refusal: 400, 403 or 404.

    """
    model = find(library, text, missing, exact=exact)
    if model.remote:
        raise Refusal(403, CLOUD)
    return model


def check_abilities(model: Model, text: str, fields: Fields, verb: str) -> None:
    """Refuse what the model cannot do.

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


def check_options(fields: Fields) -> None:
    """Refuse options of a wrong type, which Ollama calls its own fault.

    Raises:
        Refusal: 500.

    """
    for option, value in fields.get("options", {}).items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or is_number:
            continue
        if option in _INTEGERS:
            raise Refusal(500, f'option "{option}" must be of type integer')
        if option in _FLOATS:
            raise Refusal(500, f'option "{option}" must be of type float32')


def check_logprobs(fields: Fields) -> None:
    """Refuse a `top_logprobs` out of range.

    Raises:
        Refusal: 400.

    """
    if not 0 <= fields.get("top_logprobs", 0) <= MAX_TOP_LOGPROBS:
        raise Refusal(400, "top_logprobs must be between 0 and 20")


def limit_of(value: object) -> int:
    """Read a bound on the tokens to generate; 0 where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value)
