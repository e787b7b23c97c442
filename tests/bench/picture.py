"""Draw the picture of docs/evidence/benchmarks.md: first chunk, CPU a chunk; 1 to 600 streams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from tests.bench.measure import Load
from tests.bench.scenarios import Lab, middle

STREAMS: Final = (1, 10, 50, 100, 300, 600)
SUBJECTS: Final = ("plain", "nginx", "litellm", "gateway")
COLOURS: Final = {
    "direct": "#888",
    "plain": "#c33",
    "nginx": "#393",
    "litellm": "#b80",
    "gateway": "#25c",
}
WIDTH, HEIGHT, MARGIN, GAP = 380, 260, 60, 90
STYLE: Final = "font: 12px sans-serif; background: #fff"
Curves = Mapping[str, Mapping[int, float]]
"""By subject, the figure for each number of streams."""


def sweep(lab: Lab) -> dict[str, Curves]:
    """The curves of the two panels, by their titles."""
    first: dict[str, dict[int, float]] = {}
    cost: dict[str, dict[int, float]] = {}
    with lab.opened(SUBJECTS) as found:
        for number in STREAMS:
            few = min(5 * number, 30)  # a tick of CPU time is much for one stream
            load = Load(max(number, few), number)
            rounds = lab.rounds_of(f"{number} streams", found, load)
            for name in found:
                first.setdefault(name, {})[number] = 1e3 * middle(
                    rounds, name, lambda seen: seen.first(50)
                )
                cost.setdefault(name, {})[number] = 1e6 * middle(
                    rounds, name, lambda seen: seen.per_chunk
                )
    del cost["direct"]
    return {"first chunk, p50, ms": first, "CPU a chunk, us": cost}


def draw(panels: Mapping[str, Curves]) -> str:
    """Panels side by side."""
    width = MARGIN + len(panels) * (WIDTH + GAP)
    size = f'viewBox="0 0 {width} {HEIGHT + 2 * MARGIN}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{STYLE}">']
    for number, (title, curves) in enumerate(panels.items()):
        parts.append(f'<g transform="translate({MARGIN + number * (WIDTH + GAP)} {MARGIN})">')
        parts += _panel(title, curves)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, curves: Curves) -> Iterator[str]:
    values = [max(value, 0.1) for curve in curves.values() for value in curve.values()]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def x(number: int) -> float:
        return WIDTH * math.log10(number) / math.log10(STREAMS[-1])

    def y(value: float) -> float:
        return HEIGHT * (high - math.log10(max(value, 0.1))) / (high - low)

    yield f'<text x="0" y="-16" font-weight="bold">{title}</text>'
    for power in range(low, high + 1):
        yield _line(0, y(10.0**power), WIDTH, y(10.0**power))
        yield _text(-6, y(10.0**power) + 4, f"{10.0**power:g}", "end")
    for number in STREAMS:
        yield _text(x(number), HEIGHT + 18, str(number), "middle")
    yield _text(WIDTH / 2, HEIGHT + 38, "streams at once", "middle")
    for row, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in curve.items())
        colour = COLOURS[name]
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="8" y="{14 + 15 * row}" fill="{colour}">{name}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
