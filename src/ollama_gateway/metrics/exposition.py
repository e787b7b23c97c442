"""The page of all samples, made in short steps: as Prometheus reads it, or as another process does.

Each step renders some samples whole, so that a histogram's buckets and its sum are of one moment.
The page for another process has one sample a line, as JSON: a tenth of the work of reading a page
for Prometheus. It has no bounds and no texts; both sides have the definitions. Where an upgrade has
left them different ones, a sample that does not fit is left out.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

import attrs

from ollama_gateway.metrics.definitions import Definition
from ollama_gateway.metrics.families import Cell, Labels, SampleFamily
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import Steps

SAMPLES_PER_STEP: Final = 50
GZIP_LEVEL: Final = 1
"""A page shrinks to a fifteenth with it, in a fifth of the time that more would take."""
GZIP_FRAME: Final = 16 + zlib.MAX_WBITS
"""Makes zlib write the header and trailer of gzip."""
LINES: Final = "application/x-ndjson"
"""Asked for by the parent of several processes."""
OPEN_METRICS: Final = "application/openmetrics-text"

_ESCAPED: Final = re.compile(r'[\\\n"]')
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_QUALITY: Final = re.compile(r"\s*q\s*=\s*([0-9.]+)\s*\Z", re.IGNORECASE)


@attrs.frozen
class PageForm:
    """The form of a page."""

    content_type: str
    is_open_metrics: bool = False
    is_lines: bool = False


FORMS: Final[Mapping[str, PageForm]] = {
    OPEN_METRICS: PageForm(f"{OPEN_METRICS}; version=1.0.0; charset=utf-8", is_open_metrics=True),
    "text/plain": PageForm("text/plain; version=0.0.4; charset=utf-8"),
    LINES: PageForm(LINES, is_lines=True),
}
TEXT: Final = FORMS["text/plain"]


def form_for(headers: Headers) -> PageForm:
    """Return the form that the client prefers; plain text if it names none of ours."""
    wanted = _qualities(headers, b"accept")
    found = [(quality, name) for name, quality in wanted.items() if name in FORMS and quality > 0]
    return FORMS[max(found)[1]] if found else TEXT


def wants_gzip(headers: Headers) -> bool:
    """Whether the client takes an answer compressed with gzip."""
    return _qualities(headers, b"accept-encoding").get("gzip", 0) > 0


def _qualities(headers: Headers, header: bytes) -> dict[str, float]:
    """Return what a header lists, in lower case, each with its highest quality."""
    found: dict[str, float] = {}
    for name, value in headers:
        if name.lower() != header:
            continue
        for item in value.decode("latin-1").lower().split(","):
            what, *parameters = item.split(";")
            given = [match[1] for part in parameters if (match := _QUALITY.match(part))]
            try:
                quality = float(given[0]) if given else 1.0
            except ValueError:
                quality = 0.0
            what = what.strip()
            found[what] = max(found.get(what, 0.0), quality)
    return found


def render(
    families: Iterable[SampleFamily], form: PageForm = TEXT, *, gzip: bool = False
) -> Steps[bytes]:
    """Render a page in steps.

    Args:
        families: those without samples are left out.
        form: the form of the page.
        gzip: whether to compress it.

    """
    squeeze = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FRAME) if gzip else None
    pieces: list[bytes] = []
    for text in _texts(families, form):
        data = text.encode("utf-8", "replace")
        pieces.append(squeeze.compress(data) if squeeze else data)
        yield
    if squeeze:
        pieces.append(squeeze.flush())
    return b"".join(pieces)


def _texts(families: Iterable[SampleFamily], form: PageForm) -> Iterator[str]:
    for family in families:
        cells = list(family.cells.items())
        if cells and not form.is_lines:
            yield _head(family.definition, form)
        for start in range(0, len(cells), SAMPLES_PER_STEP):
            some = cells[start : start + SAMPLES_PER_STEP]
            if form.is_lines:
                yield "".join([f"{_encode([family.definition.name, *s])}\n" for s in some])
            elif family.definition.kind == "histogram":
                yield "".join([_histogram(family.definition, *sample) for sample in some])
            else:
                yield _plain(family.definition, some)
    if form.is_open_metrics:
        yield "# EOF\n"


def _head(definition: Definition, form: PageForm) -> str:
    is_total = definition.kind == "counter" and not form.is_open_metrics
    name = f"{definition.name}_total" if is_total else definition.name
    return f"# HELP {name} {definition.help}\n# TYPE {name} {definition.kind}\n"


def _plain(definition: Definition, cells: list[tuple[Labels, Cell]]) -> str:
    name = f"{definition.name}_total" if definition.kind == "counter" else definition.name
    lines = []
    for labels, cell in cells:
        inner = _labels(definition, labels)
        braced = f"{{{inner}}}" if inner else ""
        lines.append(f"{name}{braced} {_number(cell[0])}\n")
    return "".join(lines)


def _histogram(definition: Definition, labels: Labels, cell: Cell) -> str:
    name, inner = definition.name, _labels(definition, labels)
    before = f"{name}_bucket{{{inner}{',' if inner else ''}le="
    counts = list(accumulate(cell[:-1]))
    bounds = [*map(_number, definition.bounds), "+Inf"]
    braced = f"{{{inner}}}" if inner else ""
    lines = [
        f'{before}"{bound}"}} {count!r}\n' for bound, count in zip(bounds, counts, strict=True)
    ]
    lines.append(f"{name}_count{braced} {counts[-1]!r}\n{name}_sum{braced} {_number(cell[-1])}\n")
    return "".join(lines)


def _labels(definition: Definition, labels: Labels) -> str:
    return ",".join([f'{name}="{_escaped(labels[at])}"' for name, at in definition.sorted_labels])


def _escaped(value: str) -> str:
    if _ESCAPED.search(value) is None:
        return value
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def read_lines(
    page: bytes, definitions: Mapping[str, Definition]
) -> Steps[dict[str, SampleFamily]]:
    """Read the page of another process in steps; leave out what does not fit the definitions."""
    found: dict[str, SampleFamily] = {}
    for number, line in enumerate(page.splitlines()):
        name, labels, cell = json.loads(line)
        definition = definitions.get(name)
        if definition is not None and _fits(definition, labels, cell):
            family = found.setdefault(name, SampleFamily(definition))
            family.cells[tuple(labels)] = cell
        if number % SAMPLES_PER_STEP == 0:
            yield
    return found


def _fits(definition: Definition, labels: list[str], cell: Cell) -> bool:
    length = len(definition.bounds) + 2 if definition.kind == "histogram" else 1
    return len(labels) == len(definition.labels) and len(cell) == length
