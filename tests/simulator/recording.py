"""The recorded probes of a real Ollama, read from `recorded/*.txt`.

A file is one run against one server: its probes come in order, and later ones see the effects of
earlier ones. This file reads the format that the first lines of each file describe.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

FOLDER = Path(__file__).parent / "recorded"
NEWLINE = "⏎"
CUT = "…"
_PROBE = re.compile(
    r"## (?P<label>.+?) \| (?P<method>[A-Z]+) (?P<path>\S+) ?(?P<body>.*)\n"
    r"-> (?P<status>\d+) ?(?P<told>.*)\n(?P<answer>.*)\n"
)
_TOLD = re.compile(r'([\w-]+)=(?:"([^"]*)"|(\S+))')
NO_CONTENT = 204
MEASUREMENTS = "measurements"
FACTS = "facts"
"""Facts noted about answers that were not written down byte by byte."""

MASKS = {
    r'"(created_at|modified_at|expires_at)":"[^"]+Z"': r'"\1":"T"',
    r'"(\w+_duration|created|created_at|completed_at|size|size_vram)":\d+': r'"\1":0',
    r'"(chatcmpl|cmpl|resp|msg|rs|fc)[_-][0-9a-f]+(_\d+)?"': r'"\1-0"',
    r'"fc_resp_\d+_(\d+)"': r'"fc-0"',
    r'"call_[0-9a-z]{8}"': '"call_0"',
    r'"req_[0-9a-f]{24}"': '"req_0"',
    r'"context":\[[\d,]+\]': '"context":[C]',
    r'"digest":"[0-9a-f]{64}"': '"digest":"D"',
    r"(layer |FROM [/\w]+/)sha256[:-][0-9a-f]{64}": r"\1D",
    r'"embedding":"[\w+/=]+"': '"embedding":"V"',
    r'(?<!"bytes":)\[-?\d[\d.e+-]*(,-?\d[\d.e+-]*)+\]': "[V]",
    r'"(parameter_size|quantization_level)":"[^"]+"': r'"\1":"M"',
    r'"([\w.]+(?:_count|_length|_count_kv))":\d+': r'"\1":0',
}
"""Values that always differ: dates, durations, ids, digests, vectors, and models' facts."""
COUNTS = (r'"(\w*(?:_tokens|eval_count))":\d+', r'"\1":0')
"""Token counts, if the recording's runner reported some that are not those of its tokens."""


@attrs.frozen
class Probe:
    """One request and its answer.

    Args:
        section: its file.
        place: its number there.
        told: the rest of the status line: `CT`, `CL`, `TE`, and headers by name.
        answer: the body, with its newlines.

    """

    section: str
    place: int
    label: str
    method: str
    path: str
    body: bytes
    status: int
    told: dict[str, str]
    answer: str

    def __str__(self) -> str:
        return f"{self.section} {self.place}: {self.title}"

    @property
    def title(self) -> str:
        """Its name in the table of unclaimed probes."""
        return f"{self.label} | {self.method} {self.path}"

    @property
    def framing(self) -> str:
        """How the end of the body was marked; Go's client reports a length even for a 204."""
        if self.status == NO_CONTENT:
            return "close"
        return "chunked" if self.told["TE"] == "[chunked]" else "length"

    def is_noted_of(self, text: str) -> bool:
        """Return whether a text matches the note, in which an ellipsis stands for anything."""
        parts = (re.escape(part) for part in self.answer.split(CUT))
        return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None

    @property
    def headers(self) -> dict[str, str]:
        """The headers written down beside those of every answer."""
        return {
            name.lower(): value
            for name, value in self.told.items()
            if name not in ("CT", "CL", "TE")
        }


def sections() -> dict[str, list[Probe]]:
    """Return all probes, file by file."""
    return {
        path.stem: _read(path) for path in sorted(FOLDER.glob("*.txt")) if path.stem != MEASUREMENTS
    }


def measurements() -> list[str]:
    """Return the headings of measurements, which are not a request with its answer."""
    text = (FOLDER / f"{MEASUREMENTS}.txt").read_text()
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def _read(path: Path) -> list[Probe]:
    text = path.read_text(encoding="utf-8")
    found = list(_PROBE.finditer(text))
    assert len(found) == text.count("\n## "), path
    return [_probe(path.stem, place, match) for place, match in enumerate(found, 1)]


def _probe(section: str, place: int, match: re.Match[str]) -> Probe:
    told = {name: quoted or bare for name, quoted, bare in _TOLD.findall(match["told"])}
    return Probe(
        section,
        place,
        match["label"],
        match["method"],
        match["path"],
        _bytes(match["body"]),
        int(match["status"]),
        told,
        match["answer"].replace(NEWLINE, "\n"),
    )


def _bytes(text: str) -> bytes:
    if text.startswith("\\x"):
        return text.encode().decode("unicode_escape").encode("latin-1")
    return text.encode()


def masked(text: str, *, has_counts: bool = True) -> str:
    """Put fixed values in place of those that differ in every run."""
    for pattern, fixed in MASKS.items():
        text = re.sub(pattern, fixed, text)
    return text if has_counts else re.sub(*COUNTS, text)
