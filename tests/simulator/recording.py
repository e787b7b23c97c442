"""The recorded probes of a real Ollama, read from `recorded/*.txt`.

A file is one run against one server: its probes come in order, and later ones see what earlier
ones did. What its first lines say of the format is what this file reads.
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
"""What was noted of answers that were not written down byte by byte."""

MASKS = {
    r'"(created_at|modified_at|expires_at)":"[^"]+Z"': r'"\1":"T"',
    r'"(\w+_duration|created|created_at|completed_at|size|size_vram)":\d+': r'"\1":0',
    r'"(chatcmpl|cmpl|resp|msg|rs|fc)_?-?[0-9a-f]+(_\d+)?"': r'"\1-0"',
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
"""What differs by nature: dates, durations, ids, digests, vectors, and what the models are."""
COUNTS = (r'"(\w*(?:_tokens|eval_count))":\d+', r'"\1":0')
"""Token counts, where the recording's runner told some that are not those of its tokens."""


@attrs.frozen
class Probe:
    """One request, and what was answered to it.

    Args:
        section: the file it is from.
        place: its number there.
        told: status line's rest: `CT`, `CL`, `TE`, and headers by name.
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
        """How the table of what is not claimed names it."""
        return f"{self.label} | {self.method} {self.path}"

    @property
    def framing(self) -> str:
        """How the end of the body was told; Go's client tells a length even of a 204."""
        if self.status == NO_CONTENT:
            return "close"
        return "chunked" if self.told["TE"] == "[chunked]" else "length"

    def is_noted_of(self, text: str) -> bool:
        """Whether a text is what was noted, with anything in place of an ellipsis."""
        parts = (re.escape(part) for part in self.answer.split(CUT))
        return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that were written down beside the ones of each answer."""
        return {
            name.lower(): value
            for name, value in self.told.items()
            if name not in ("CT", "CL", "TE")
        }


def sections() -> dict[str, list[Probe]]:
    """Give all probes, file by file."""
    return {
        path.stem: _read(path) for path in sorted(FOLDER.glob("*.txt")) if path.stem != MEASUREMENTS
    }


def measurements() -> list[str]:
    """Give the headings of what was measured, which is no request with its answer."""
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
    """Put fixed values where every run has its own."""
    for pattern, fixed in MASKS.items():
        text = re.sub(pattern, fixed, text)
    return text if has_counts else re.sub(*COUNTS, text)
