"""How many tokens a request may cost at most, and that bound written into its body.

No tokenizer is needed for an upper bound: a token is at least a byte of text, so the bytes of a
body bound the tokens of what it says; what a template adds to that is not in these figures. Media
are the exception, since a tiny picture can become thousands of tokens whatever its bytes, so
`measure` counts the pieces and takes their bytes out.
It looks where Ollama looks, under keys in any case, and errs upwards: what might be a piece is
one, and bytes leave the text only where Ollama reads no text.

`with_generation` writes the granted bound where Ollama reads it (`splicing.py`).

All functions take bodies that were accepted; what is refused is not looked for again. Large ones
are measured by their parts: a message or a tool that is divided counts twice, and never less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

from ollama_gateway.wire.body import LongText, folded, go_fold, invalid_body, lookup, utf8_size
from ollama_gateway.wire.large import Large, RequestBody, Steps
from ollama_gateway.wire.parts import divides_a_namespace, parts
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


@attrs.frozen
class Measure:
    """What a request's tokens can be bounded by."""

    text: int
    """Bytes of the JSON body without its media."""
    media: int
    """Pieces of media, images and audio alike."""
    inputs: Counter[int] = attrs.field(factory=Counter)
    """How many texts to embed there are of so many UTF-8 bytes; empty for a generation."""
    asked: int | None = None
    """The client's own bound of the generation in tokens, at least 1; None if it set none."""
    written: int | None = None
    """That bound where it stands as an integer in the field that Ollama reads, and in no other that
    it might read after that."""
    overriding: tuple[Field, ...] = ()
    """Such others, in an object, where something stands: they have to say the same."""
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


def measured(
    body: RequestBody, fields: dict[str, object], bounds: tuple[Field, ...], passes: int = 1
) -> Steps[Measure]:
    """Measure a request for a generation by its parts; see `measure`.

    Args:
        body: what came.
        fields: of it, as `fields_of` has read them.
        bounds, passes: see `measure`.

    """
    found = measure_document(fields, len(body), bounds, passes)
    if isinstance(body, bytes):
        return found
    # What `fields` has of it is in the parts as well.
    found = attrs.evolve(found, text=len(body), media=0, messages=0, tools=0, has_template=False)
    for part in parts(body):
        yield
        document = part.value()
        if divides_a_namespace(part, document):
            raise invalid_body("a namespace of tools is too large")
        one = measure_document(document, 0, ())
        found = attrs.evolve(
            found,
            text=found.text + one.text,
            media=found.media + one.media,
            messages=found.messages + one.messages,
            tools=found.tools + one.tools,
            repeated=found.repeated + one.repeated,
            has_template=found.has_template or one.has_template,
        )
    return found


def measure_document(
    document: dict[str, object], size: int, bounds: tuple[Field, ...], passes: int = 1
) -> Measure:
    """Measure a request for a generation: 10,000 text messages take about 2 ms.

    Media are `images` of the request and of its messages (Ollama's own dialect), and the parts that
    hold an image or audio: of messages (OpenAI, Anthropic) and of what tools returned, which is
    `output` in Responses and a part with parts of its own in Anthropic's `tool_result`.

    Args:
        document: a body that `parse` accepted.
        size: bytes of that body.
        bounds: where the dialect's bound of the generation may stand, the first valid one counts.
        passes: how often the model may run for it.

    """
    named = folded(document)
    pieces = [p.size if isinstance(p, LongText) else len(p) for p in _media(named)]
    values = [_value(named, field) for field in bounds]
    counts = (count for count in map(_count, values) if count is not None)
    overriding = tuple(field for field in bounds[1:] if len(field) > 1 and _stands(named, field))
    is_written = values and type(values[0]) is int and not overriding
    tools = list(_tools(named.get("tools"), 0))
    return Measure(
        text=size - sum(pieces),
        media=len(pieces),
        asked=next(counts, None),
        written=_count(values[0]) if is_written else None,
        overriding=overriding,
        messages=_messages(named),
        tools=len(tools),
        repeated=sum(tools),
        has_template=bool(named.get("template")),
        passes=passes,
    )


def measured_inputs(body: RequestBody, fields: dict[str, object], field: str) -> Steps[Measure]:
    """Measure a request for embeddings: `field` holds a string or a list of strings.

    Anything else is one input of the whole body's size: Ollama embeds token ids, or refuses it.
    """
    whole = Measure(text=len(body), media=0, inputs=Counter([len(body)]))
    value = lookup(fields, field)
    sizes = _sizes(value)
    if not isinstance(body, bytes) and isinstance(value, list):
        sizes = yield from _sizes_by_parts(body, field)
    return whole if sizes is None else attrs.evolve(whole, inputs=sizes or Counter([0]))


def _sizes_by_parts(body: Large, field: str) -> Steps[Counter[int] | None]:
    found: Counter[int] = Counter()
    for part in parts(body):
        yield
        sizes = _sizes(lookup(part.value(), field) or [])
        if sizes is None:
            return None
        found.update(sizes)
    return found


def _sizes(value: object) -> Counter[int] | None:
    """The bytes of each text; None where something is none."""
    inputs: list[object] = value if isinstance(value, list) else [value]
    sizes = Counter(utf8_size(text) for text in inputs if isinstance(text, str))
    return sizes if sizes.total() == len(inputs) else None


def with_generation(
    body: RequestBody, field: Field, tokens: int, overriding: tuple[Field, ...] = ()
) -> RequestBody:
    """The body with `tokens` as its bound of the generation, all its other bytes unchanged.

    Args:
        body: one that was accepted.
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


def _tools(tools: object, prefix: int) -> Iterator[int]:
    """For each tool the bytes that Ollama puts before its name, or writes of its own.

    A namespace (Responses) is no tool itself: each of its members is one, under both names
    (openai/responses.go, convertTools).
    """
    for tool in tools if isinstance(tools, list) else ():
        fields = tool if isinstance(tool, dict) else {}
        name, kind, members = (lookup(fields, key) for key in ("name", "type", "tools"))
        if isinstance(members, list) and members:
            own = 1 + utf8_size(name) if isinstance(name, str) else 1
            yield from _tools(members, prefix + own)
        else:
            yield prefix + SEARCH_TOOL * (isinstance(kind, str) and is_search(kind))


def is_search(kind: str) -> bool:
    """Whether a tool of this type may be one that Ollama serves itself."""
    return isinstance(kind, LongText) or kind.strip().startswith(WEB_SEARCH)


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
