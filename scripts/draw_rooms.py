"""Draw the rooms of the package and the imports between them: ``python scripts/draw_rooms.py [--check]``.

The picture is made from the import statements and nothing else. A room is above all that it imports. An arrow that
others imply (a → b → c implies a → c) is left out. The ground files, which every room may import, are one bar at
the bottom. Standard library only.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from import_graph import import_edges, room_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "createagents_nb"
PICTURE = ROOT / "docs" / "rooms.svg"

ABOUT = {
    "agent": "what an agent does: the tool loop, responses, history",
    "batch": "one prompt, many rows",
    "builtin_tools": "tools that ship",
    "core": "the nouns: messages, events, records, the provider seam",
    "create_agent": "where the rooms meet",
    "demo": "the embedded server",
    "metrics": "the recorder",
    "notebook": "Jupyter: magics, live view, kernel",
    "providers": "servers: requests, decoders, the HTTP client",
    "render": "from a turn to HTML, Markdown, text",
    "tools": "what a tool is, and running one",
    "wrappers": "what stands around a provider",
}
_WIDTH, _BOX, _GAP, _HEIGHT, _LAYER = 980, 218, 26, 62, 118
_MARGIN = 20
_STYLE = """
  .box { fill: #f6f8fa; stroke: #57606a } .ground { fill: #eaeef2; stroke: #57606a }
  .name { font: 600 15px system-ui, sans-serif; fill: #1f2328 }
  .about { font: 12px system-ui, sans-serif; fill: #57606a }
  .arrow { stroke: #8c959f; fill: none; stroke-width: 1.4 } .head { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    .box { fill: #161b22; stroke: #8b949e } .ground { fill: #21262d; stroke: #8b949e }
    .name { fill: #e6edf3 } .about { fill: #9da7b1 } .arrow { stroke: #6e7681 } .head { fill: #6e7681 }
  }
"""


def room_graph(package: Path = PACKAGE) -> tuple[dict[str, set[str]], list[str]]:
    """What each room imports, and the ground files: the modules at the top that are not a room of `ABOUT`."""
    graph: dict[str, set[str]] = defaultdict(set)
    ground: set[str] = set()
    for edge in import_edges(package):
        importer, imported = room_of(edge.importer), room_of(edge.imported)
        ground |= {importer, imported} - ABOUT.keys()
        if importer in ABOUT:
            graph[importer]  # a room without imports is drawn, too
        if importer in ABOUT and imported in ABOUT and importer != imported:
            graph[importer].add(imported)
            graph[imported]
    return dict(graph), sorted(ground)


def reduce(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph without edges that a longer path implies."""
    reachable: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in reachable:
            reachable[room] = set().union(*({target} | reach(target) for target in graph[room]))
        return reachable[room]

    return {
        room: {target for target in targets if not any(target in reach(other) for other in targets - {target})}
        for room, targets in graph.items()
    }


def layers(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The rooms from the top down; each is in the lowest layer that is above all it imports."""
    height: dict[str, int] = {}

    def measure(room: str) -> int:
        if room not in height:
            height[room] = 1 + max(map(measure, graph[room]), default=-1)
        return height[room]

    rows: dict[int, list[str]] = defaultdict(list)
    for room in sorted(graph):
        rows[measure(room)].append(room)
    return [rows[number] for number in sorted(rows, reverse=True)]


def draw(graph: Mapping[str, set[str]], ground: Iterable[str]) -> str:
    """The picture as SVG."""
    rows, places = _placed(layers(graph), graph)
    bottom = _MARGIN + len(rows) * _LAYER
    arrows = [
        _arrow(room, target, rows, places)
        for room, targets in sorted(reduce(graph).items())
        for target in sorted(targets)
    ]
    boxes = [
        _box("box", x - _BOX / 2, _row_y(row), _BOX, _HEIGHT, room, ABOUT[room])
        for room, (x, row) in sorted(places.items())
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 76}" role="img" '
        'aria-label="Rooms of the package, and which imports which">',
        f"<style>{_STYLE}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0,0 8,4 0,8z"/></marker>',
        *arrows,
        *boxes,
        _box("ground", _MARGIN, bottom, _WIDTH - 2 * _MARGIN, 56, "ground files", " · ".join(ground)),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _placed(
    rows: list[list[str]], graph: Mapping[str, set[str]]
) -> tuple[list[list[float]], dict[str, tuple[float, int]]]:
    """The center of each box, row by row, and of each room with its row; rooms are near those that import them."""
    centers: list[list[float]] = []
    places: dict[str, tuple[float, int]] = {}
    for number, row in enumerate(rows):
        above = {room: [x for upper, (x, _) in places.items() if room in graph[upper]] for room in row}
        pull = {room: sum(xs) / len(xs) if xs else _WIDTH / 2 for room, xs in above.items()}
        left = (_WIDTH - len(row) * _BOX - (len(row) - 1) * _GAP) / 2 + _BOX / 2
        centers.append([left + column * (_BOX + _GAP) for column in range(len(row))])
        places |= {
            room: (x, number)
            for room, x in zip(sorted(row, key=lambda room: (pull[room], room)), centers[-1], strict=True)
        }
    return centers, places


def _row_y(row: int) -> float:
    return _MARGIN + row * _LAYER


def _arrow(room: str, target: str, rows: list[list[float]], places: Mapping[str, tuple[float, int]]) -> str:
    """A curve from ``room`` down to ``target``, through the gaps of the rows between them."""
    (x, row), (end_x, end_row) = places[room], places[target]
    y = _row_y(row) + _HEIGHT
    path = f"M{x:g},{y:g}"
    for between in range(row + 1, end_row + 1):
        is_last = between == end_row
        wanted = x + (end_x - x) / (end_row - between + 1)
        gaps = [center + side * (_BOX + _GAP) / 2 for center in rows[between] for side in (-1, 1)]
        next_x = end_x if is_last else min(gaps, key=lambda gap: abs(gap - wanted))
        next_y = _row_y(between) - (2 if is_last else 0)
        middle = (next_y - y) / 2
        path += f" C{x:g},{y + middle:g} {next_x:g},{next_y - middle:g} {next_x:g},{next_y:g}"
        if not is_last:
            next_y += _HEIGHT
            path += f" V{next_y:g}"
        x, y = next_x, next_y
    return f'<path class="arrow" marker-end="url(#head)" d="{path}"/>'


def _box(kind: str, x: float, y: float, width: float, height: float, name: str, about: str) -> str:
    center = x + width / 2
    lines = _wrap(about, int(width / 6.3))
    at = f'x="{center:g}" text-anchor="middle"'
    texts = [
        f'<text class="about" {at} y="{y + 38 + 15 * number:g}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        [
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>',
            f'<text class="name" x="{center:g}" y="{y + 20:g}" text-anchor="middle">{escape(name)}</text>',
            *texts,
        ]
    )


def _wrap(text: str, limit: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--check", action="store_true", help="only tell whether docs/rooms.svg is current")
    options = parser.parse_args(arguments)
    picture = draw(*room_graph())
    if not options.check:
        PICTURE.write_text(picture, "utf-8")
    elif not PICTURE.exists() or PICTURE.read_text("utf-8") != picture:
        print("docs/rooms.svg is out of date: run python scripts/draw_rooms.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
