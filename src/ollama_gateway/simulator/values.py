"""Values of the right type that Ollama refuses.

Options are checked before the model is loaded, a template and a format after it: each of those
costs a load, and all of them are reported as the server's fault (500).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.generation import RunnerFailed
from ollama_gateway.simulator.gojson import dumps

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
_KINDS = (
    dict.fromkeys(_INTEGERS, "integer")
    | dict.fromkeys(_FLOATS, "float32")
    | {"use_mmap": "boolean", "stop": "array"}
)
MAX_TOP_LOGPROBS = 20
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_OPENING = ("if", "range", "with", "define", "block")
_FUNCTIONS = (
    *("and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js"),
    *("urlquery", "call", "eq", "ne", "lt", "le", "gt", "ge", "template", "break", "continue"),
    *("else", "nil", "true", "false", "json", "currentDate", "yesterdayDate", "toTypeScriptType"),
)


def check_options(fields: dict[str, Any]) -> None:
    """Refuse options of a wrong type, which Ollama reports as its own fault.

    Raises:
        Refusal: 500.

    """
    for option, value in fields.get("options", {}).items():
        kind = _KINDS.get(option)
        if value is None or kind is None:
            continue
        if not _is(kind, value):
            raise Refusal(500, f'option "{option}" must be of type {kind}')
        if kind == "array" and not all(isinstance(item, str) for item in value):
            raise Refusal(500, f'option "{option}" must be of an array of strings')


def _is(kind: str, value: object) -> bool:
    if kind == "array":
        return isinstance(value, list)
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    return isinstance(value, int | float)


def check_logprobs(fields: dict[str, Any]) -> None:
    """Refuse a `top_logprobs` out of range.

    Raises:
        Refusal: 400.

    """
    if not 0 <= fields.get("top_logprobs", 0) <= MAX_TOP_LOGPROBS:
        raise Refusal(400, "top_logprobs must be between 0 and 20")


def limit_of(value: object) -> int:
    """Read a limit on the tokens to generate; 0 if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value)


def fault_of_format(value: object) -> Refusal | None:
    """Return the runner's error for a format that is neither `json` nor a schema."""
    if value in (None, "", "json") or isinstance(value, dict):
        return None
    quoted = json.dumps(dumps(value).decode(), ensure_ascii=False)
    wanted = 'expected "json" or a valid JSON Schema object'
    return RunnerFailed(500, f"invalid format: {quoted}; {wanted}")


def fault_of_template(text: str) -> str | None:
    """Return the fault of a Go template, as far as blocks and names show it."""
    depth, end = 0, 0
    for action in _ACTION.finditer(text):
        end = action.end()
        word = _WORD.match(action[1])
        line = text.count("\n", 0, action.start()) + 1
        if word and word[0] in _OPENING:
            depth += 1
        elif word and word[0] == "end":
            depth -= 1
        elif word and word[0] not in _FUNCTIONS:
            return f'template: :{line}: function "{word[0]}" not defined'
        if depth < 0:
            return f"template: :{line}: unexpected {{{{end}}}}"
    line = text.count("\n") + 1
    if "{{" in text[end:]:
        return f"template: :{line}: unclosed action"
    return f"template: :{line}: unexpected EOF" if depth else None
