"""How many tokens a request may cost at most, and that bound written into its body.

No tokenizer is needed for an upper bound: a token is at least a byte of text, so the bytes of a
body bound the tokens of what it says; what a template adds to that is not in these figures. Media
are the exception, since a tiny picture can become thousands of tokens whatever its bytes, so
`measure` counts the pieces and takes their bytes out.
It looks where Ollama looks, under keys in any case, and errs upwards: what might be a piece is
one, and bytes leave the text only where Ollama reads no text.

`with_generation` writes the granted bound where Ollama reads it (`splicing.py`).

All functions take bodies that `body.parse` accepted; what it refuses is not looked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import attrs

from ollama_gateway.wire.body import folded, go_fold, lookup
from ollama_gateway.wire.splicing import Field, with_value

_MEDIA_KEYS: Final = {"image_url": "url", "input_audio": "data", "source": "data"}
"""Keys of a content part that hold media: a string, or an object with the string under this key."""
_PARTS: Final = frozenset({"content", "output"})
"""Keys of messages, input items and tool results that hold a list of parts."""
_MEDIA_TYPES: Final = frozenset({"image_url", "input_audio", "input_image", "image"})

WEB_SEARCH: Final = "web_search"
"""How the types of tools begin that Ollama serves itself, by asking its cloud."""
SEARCH_TOOL: Final = 400
"""Bytes of the tool that Ollama writes in place of such a one (anthropic.go, responses.go)."""


Length: TypeAlias = Callable[[str], int]
"""The characters of a text, of one that is left out of a slim body too (`slimming.py`)."""


@attrs.frozen
class Measure:
    """What a request's tokens can be bounded by."""

    text: int
    """Bytes of the JSON body without its media."""
    media: int
    """Pieces of media, images and audio alike."""
    inputs: tuple[int, ...] = ()
    """UTF-8 bytes of each text to embed; empty for a generation."""
    asked: int | None = None
    """The client's own bound of the generation in tokens, at least 1; None if it set none."""
    written: int | None = None
    """That bound where it stands as an integer in the field that Ollama reads, and in no other that
    it might read after that."""
    overriding: tuple[Field, ...] = ()
    """Such others, which have to say the same: those in an object, where something stands."""
    messages: int = 0
    """Messages, each of which a template wraps in words of its own."""
    tools: int = 0
    """Tools, each of which a template prints with all its fields, also those that are not there."""
    repeated: int = 0
    """Bytes that are not in the body, or once: a namespace's name goes before each of its tools."""
    has_template: bool = False
    """Whether it brings a template, which can print the prompt as often as it likes."""
    passes: int = 1
    """How often Ollama may read the prompt and write an answer for this one request."""


def measure(
    document: dict[str, object],
    size: int,
    fields: tuple[Field, ...],
    passes: int = 1,
    length: Length = len,
) -> Measure:
    """Measure a request for a generation: 10,000 text messages take about 2 ms.

    Media are `images` of the request and of its messages (Ollama's own dialect), and the parts that
    hold an image or audio: of messages (OpenAI, Anthropic) and of what tools returned, which is
    `output` in Responses and a part with parts of its own in Anthropic's `tool_result`.

    Args:
        document: a body that `parse` accepted.
        size: bytes of that body.
        fields: where the dialect's bound of the generation may stand, the first valid one counts.
        passes: how often the model may run for it.
        length: how long its texts are.

    """
    named = folded(document)
    pieces = [length(piece) for piece in _media(named)]
    bounds = [_value(named, field) for field in fields]
    counts = (count for count in map(_count, bounds) if count is not None)
    overriding = tuple(field for field in fields[1:] if len(field) > 1 and _stands(named, field))
    is_written = bounds and type(bounds[0]) is int and not overriding
    tools = list(_tools(named.get("tools"), 0, length))
    return Measure(
        text=size - sum(pieces),
        media=len(pieces),
        asked=next(counts, None),
        written=_count(bounds[0]) if is_written else None,
        overriding=overriding,
        messages=_messages(named),
        tools=len(tools),
        repeated=sum(tools),
        has_template=bool(named.get("template")),
        passes=passes,
    )


def measure_inputs(
    document: dict[str, object], size: int, field: str, length: Length = len
) -> Measure:
    """Measure a request for embeddings: `field` holds a string or a list of strings.

    Anything else is one input of the whole body's `size`: Ollama refuses it or embeds nothing.
    """
    value = lookup(document, field)
    inputs: list[object] = value if isinstance(value, list) else [value]
    sizes = tuple(_size(text, length) for text in inputs if isinstance(text, str))
    if len(sizes) < len(inputs):
        sizes = (size,)
    return Measure(text=size, media=0, inputs=sizes or (0,))


def with_generation(
    body: bytes, field: Field, tokens: int, overriding: tuple[Field, ...] = ()
) -> bytes:
    """The body with `tokens` as its bound of the generation, all its other bytes unchanged.

    Args:
        body: the bytes that `parse` accepted.
        field: such as `("max_tokens",)` or `("options", "num_predict")`.
        tokens: at least 1.
        overriding: as measured; they say the same then.

    Raises:
        BadRequest: `options` is neither an object nor null.

    """
    for other in overriding:
        body = with_value(body, other, str(tokens), in_any_case=True)
    return with_value(body, field, str(tokens))


def _media(named: dict[str, object]) -> Iterator[str]:
    """The text of each piece of media; an empty one for what is not a string.

    Base64 is ASCII, and of other text the characters are fewer than the bytes of its JSON, so
    that never more is subtracted than is there.
    """
    yield from _texts(named.get("images"))
    for field in ("messages", "input"):
        messages = named.get(field)
        for message in messages if isinstance(messages, list) else ():
            # Nearly all values are plain text: the names of these are not even folded.
            for name, value in message.items() if isinstance(message, dict) else ():
                if isinstance(value, list):
                    yield from _in_list(go_fold(name), value)


def _in_list(name: str, items: list[object]) -> Iterator[str]:
    if name == "images":
        yield from _texts(items)
    elif name in _PARTS:
        for part in items:
            if isinstance(part, dict):
                yield from _in_part(part)


def _in_part(part: dict[str, object]) -> list[str]:
    """A part is media by its type or by what it holds, which may be parts again.

    To Go a later `"type":null` changes nothing in a struct, so the type alone would not do; and a
    key that holds null is how some clients write a part that has no image.
    """
    texts: list[str] = []
    is_media = False
    for name, value in part.items():
        if isinstance(value, list):
            texts += _in_list(go_fold(name), value)
        elif isinstance(value, (str, dict)):
            key = go_fold(name)
            if key in _MEDIA_KEYS:
                texts += _held(value, _MEDIA_KEYS[key])
            elif key == "type":
                is_media |= isinstance(value, str) and value in _MEDIA_TYPES
    return texts or [""] * is_media


def _held(value: str | dict[str, object], key: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    texts = [text for name, text in value.items() if go_fold(name) == key]
    return _texts(texts) or [""]


def _texts(items: object) -> list[str]:
    """Each item of a list; Go takes also a list of numbers for bytes, and null for none."""
    if not isinstance(items, list):
        return []
    return [item if isinstance(item, str) else "" for item in items]


def _messages(named: dict[str, object]) -> int:
    """Those that are listed, and those that Ollama makes of a field: of a prompt, of the rules."""
    found = bool(named.get("system")) + bool(named.get("instructions"))
    for field in ("messages", "input"):
        value = named.get(field)
        found += len(value) if isinstance(value, list) else isinstance(value, str)
    return found


def _tools(tools: object, prefix: int, length: Length) -> Iterator[int]:
    """For each tool the bytes that Ollama puts before its name, or writes of its own.

    A namespace (Responses) is no tool itself: each of its members is one, under both names
    (openai/responses.go, convertTools).
    """
    for tool in tools if isinstance(tools, list) else ():
        fields = tool if isinstance(tool, dict) else {}
        name, kind, members = (lookup(fields, key) for key in ("name", "type", "tools"))
        if isinstance(members, list) and members:
            own = 1 + _size(name, length) if isinstance(name, str) else 1
            yield from _tools(members, prefix + own, length)
        else:
            is_search = isinstance(kind, str) and kind.strip().startswith(WEB_SEARCH)
            yield prefix + SEARCH_TOOL * is_search


def _size(text: str, length: Length) -> int:
    """UTF-8 bytes, a lone surrogate counted as what Go puts in its place, which is as long."""
    left_out = length(text) - len(text)  # base64, of which each character is a byte
    return len(text.encode("utf-8", "surrogatepass")) + left_out


def _value(named: dict[str, object], field: Field) -> object | None:
    value = named.get(field[0])
    for key in field[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _stands(named: dict[str, object], field: Field) -> bool:
    """Whether something stands in a field of an object, under its name in any case."""
    name, key = field
    value = named.get(name)
    return isinstance(value, dict) and any(go_fold(member) == key for member in value)


def _count(value: object) -> int | None:
    """An integer of 1 or more, also one that is written as 100.0 or 1e2."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 1 else None
