"""Bound the tokens that a request may cost, and write the granted bound into its body.

No tokenizer is needed: a token is at least one byte of text, so the bytes of a body bound the
tokens of its text; what a template adds is not in these figures. Media are the exception: a tiny
picture can become thousands of tokens, so media items are counted and their bytes left out.
`measure_document` looks where Ollama looks, under keys in any case, and errs upwards: a doubtful
value counts as an item, and bytes are left out only where Ollama reads no text.

All functions take accepted bodies and do not repeat the checks of acceptance. A large body is
measured part by part: a divided message or tool counts twice, never less than once.
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
"""Types of tools that Ollama serves itself, by asking its cloud, begin with this."""
SEARCH_TOOL: Final = 400
"""Bytes of the tool that Ollama writes in place of one (anthropic.go, responses.go)."""


@attrs.frozen
class Measure:
    """The figures that bound a request's tokens."""

    text: int
    """Bytes of the JSON body without its media."""
    media: int
    """Media items, images and audio alike."""
    inputs: Counter[int] = attrs.field(factory=Counter)
    """Number of texts to embed by their UTF-8 bytes; empty for a generation."""
    asked: int | None = None
    """The client's own bound of the answer in tokens, at least 1; None if it set none."""
    written: int | None = None
    """That bound, if it is an integer where Ollama reads it and nothing can override it."""
    overriding: tuple[Field, ...] = ()
    """Fields in an object that might override it and are present: they must get the same bound."""
    messages: int = 0
    """Messages; a template wraps each in text of its own."""
    tools: int = 0
    """Tools; a template prints each with all fields, even absent ones."""
    repeated: int = 0
    """Bytes that the body has once or never: a namespace's name precedes each of its tools."""
    has_template: bool = False
    """Whether the request brings a template, which can print the prompt any number of times."""
    passes: int = 1
    """How often Ollama may read the prompt and write an answer for this one request."""


def measured(
    body: RequestBody, fields: dict[str, object], bounds: tuple[Field, ...], passes: int = 1
) -> Steps[Measure]:
    """Measure a request for a generation, a large one part by part; see `measure_document`.

    Args:
        body: the accepted body.
        fields: its fields, as `fields_of` has read them.
        bounds, passes: see `measure_document`.

    """
    found = measure_document(fields, len(body), bounds, passes)
    if isinstance(body, bytes):
        return found
    # The parts hold everything that `fields` holds.
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

    Media are `images` of the request and of its messages (Ollama's own dialect), and parts that
    hold an image or audio: in messages (OpenAI, Anthropic) and in tool results, which are `output`
    in Responses and a part with nested parts in Anthropic's `tool_result`.

    Args:
        document: a body that `parse` accepted.
        size: bytes of that body.
        bounds: where the dialect's bound of the answer may stand; the first valid one counts.
        passes: how often the model may run for it.

    """
    named = folded(document)
    media_sizes = [p.size if isinstance(p, LongText) else len(p) for p in _media(named)]
    values = [_value(named, field) for field in bounds]
    counts = (count for count in map(_count, values) if count is not None)
    overriding = tuple(
        field for field in bounds[1:] if len(field) > 1 and _is_present(named, field)
    )
    is_written = values and type(values[0]) is int and not overriding
    tools = list(_tools(named.get("tools"), 0))
    return Measure(
        text=size - sum(media_sizes),
        media=len(media_sizes),
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

    Any other value counts as one input of the body's size: Ollama embeds token ids, or refuses it.
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
    """Count texts by their bytes; None if any value is no string."""
    inputs: list[object] = value if isinstance(value, list) else [value]
    sizes = Counter(utf8_size(text) for text in inputs if isinstance(text, str))
    return sizes if sizes.total() == len(inputs) else None


def with_generation(
    body: RequestBody, field: Field, tokens: int, overriding: tuple[Field, ...] = ()
) -> RequestBody:
    """Return the body with `tokens` as its bound of the answer; all other bytes stay.

    Args:
        body: an accepted body.
        field: such as `("max_tokens",)` or `("options", "num_predict")`.
        tokens: at least 1.
        overriding: as measured; these fields get the same bound.

    Raises:
        BadRequest: `options` is neither an object nor null.

    """
    for other in overriding:
        body = with_value(body, other, str(tokens), in_any_case=True)
    return with_value(body, field, str(tokens))


def _media(named: dict[str, object]) -> Iterator[str]:
    """Yield the text of each media item; an empty one for a value that is no string.

    Base64 is ASCII, and other text has fewer characters than its JSON has bytes, so never more is
    subtracted than the item takes.
    """
    yield from _texts(named.get("images"))
    for field in ("messages", "input"):
        messages = named.get(field)
        for message in messages if isinstance(messages, list) else ():
            # Nearly all values are strings; their names need no folding.
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
    """Return the media of a part, known by its type or by its values, which may be parts again.

    The type alone is not enough: to Go a later `"type":null` changes nothing in a struct. A key
    that holds null does not count: some clients write a part without an image so.
    """
    texts: list[str] = []
    is_media = False
    for name, value in part.items():
        if isinstance(value, list):
            texts += _in_list(go_fold(name), value)
        elif isinstance(value, (str, dict)):
            key = go_fold(name)
            if key in _MEDIA_KEYS:
                texts += _media_in(value, _MEDIA_KEYS[key])
            elif key == "type":
                is_media |= isinstance(value, str) and value in _MEDIA_TYPES
    return texts or [""] * is_media


def _media_in(value: str | dict[str, object], key: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    texts = [text for name, text in value.items() if go_fold(name) == key]
    return _texts(texts) or [""]


def _texts(items: object) -> list[str]:
    """Return a list's items as texts; Go also takes a list of numbers for bytes, null for none."""
    if not isinstance(items, list):
        return []
    return [item if isinstance(item, str) else "" for item in items]


def _messages(named: dict[str, object]) -> int:
    """Count the messages listed, and those that Ollama makes of a prompt or of instructions."""
    found = bool(named.get("system")) + bool(named.get("instructions"))
    for field in ("messages", "input"):
        value = named.get(field)
        found += len(value) if isinstance(value, list) else isinstance(value, str)
    return found


def _tools(tools: object, prefix: int) -> Iterator[int]:
    """Yield for each tool the bytes that Ollama writes before its name or in its place.

    A namespace (Responses) is no tool itself: each of its members is one, named by both names
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
    """Return whether Ollama may serve a tool of this type itself."""
    return isinstance(kind, LongText) or kind.strip().startswith(WEB_SEARCH)


def _value(named: dict[str, object], field: Field) -> object | None:
    value = named.get(field[0])
    for key in field[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_present(named: dict[str, object], field: Field) -> bool:
    """Return whether a field inside an object is present, under its name in any case."""
    name, key = field
    value = named.get(name)
    return isinstance(value, dict) and any(go_fold(member) == key for member in value)


def _count(value: object) -> int | None:
    """Return an integer of 1 or more, even if written as 100.0 or 1e2; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 1 else None
