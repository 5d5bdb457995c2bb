"""What was measured of the live view, as Markdown."""

from __future__ import annotations

import gzip
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from view_measure import HERE, LATE_S, VIEWPORT, Answer

RATE = 1_000
STATIC = HERE.parent / "createagents_nb" / "notebook" / "static"
PACKAGES = ("jupyterlab", "ipykernel", "anywidget")
COMM, DISPLAY = ("comm_open", "comm_msg", "comm_close"), ("display_data", "update_display_data")
Figure = Callable[[Answer], float]


@dataclass
class Results:
    """Answers, each list one per round."""

    first: list[Answer] = field(default_factory=list)
    second: list[Answer] = field(default_factory=list)
    unseen: list[Answer] = field(default_factory=list)
    baseline: list[Answer] = field(default_factory=list)
    long: dict[str, Answer] = field(default_factory=dict)
    scroll: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """By view and reader."""


# Figures of one answer


def tasks_ms(answer: Answer) -> float:
    return sum(answer.tasks_s) * 1e3


def longest_ms(answer: Answer) -> float:
    return max(answer.tasks_s, default=0.0) * 1e3


def page_cpu_ms(answer: Answer) -> float:
    return answer.page_cpu_s * 1e3


def took_s(answer: Answer) -> float:
    return answer.kernel_s


def late_s(answer: Answer) -> float:
    return answer.late_s


def kilobytes(answer: Answer) -> float:
    return answer.sizes.total() / 1e3


def comm_kilobytes(answer: Answer) -> float:
    return sum(answer.sizes[kind] for kind in COMM) / 1e3


def display_kilobytes(answer: Answer) -> float:
    return sum(answer.sizes[kind] for kind in DISPLAY) / 1e3


def header_kilobytes(answer: Answer) -> float:
    return answer.headers / 1e3


def per_text(answer: Answer) -> float:
    return answer.sizes.total() / answer.text


def messages(answer: Answer) -> float:
    """What carries the answer: comm messages, and displays with their updates."""
    return sum(answer.messages[kind] for kind in COMM + DISPLAY)


def messages_per_s(answer: Answer) -> float:
    return messages(answer) / answer.kernel_s


def cpu_us(answer: Answer) -> float:
    return answer.kernel_cpu_s / answer.tokens * 1e6


def median(answers: Iterable[Answer], figure: Figure) -> float:
    return statistics.median(map(figure, answers))


# The report


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else f"not within {LATE_S:.0f} s"


def ratio(ours: float, other: float) -> str:
    return f"{ours / other:.2f}" if other and math.isfinite(ours + other) else "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def bound(what: str, value: float, limit: float, unit: str, digits: int = 0) -> list[str]:
    verdict = "pass" if value <= limit else f"**missed by {number(value - limit, digits)} {unit}**"
    return [what, f"{number(value, digits)} {unit}", f"≤ {number(limit, digits)} {unit}", verdict]


def bounds(found: Results, tokens: int, long: int) -> list[str]:
    long_answer = next(iter(found.long.values()))
    first, second = found.first[0], found.second[0]
    follows, stays = found.scroll["live view", "bottom"].scroll, found.scroll["live view", "middle"].scroll
    assert follows is not None
    assert stays is not None
    bundle = sum(len(gzip.compress(file.read_bytes(), 9)) for file in STATIC.glob("*.js"))
    share = 0.02 * median(found.baseline, tasks_ms)

    def most(answer: Answer) -> float:
        return (3 * answer.text + 20_000) / 1e3

    return table(
        ["bound", "measured", "limit", ""],
        [
            bound(
                f"long tasks, {tokens:,} tokens, 2 % of the baseline's", median(found.first, tasks_ms), share, "ms"
            ),
            bound(f"long tasks, {long:,} tokens", tasks_ms(long_answer), 1_000, "ms"),
            bound(f"page done after the kernel, {tokens:,} tokens", median(found.first, late_s), 1, "s", 2),
            bound(f"page done after the kernel, {long:,} tokens", late_s(long_answer), 1, "s", 2),
            bound("websocket, first answer, 3 × text + 20 kB", median(found.first, kilobytes), most(first), "kB"),
            bound("websocket, second answer, the same", median(found.second, kilobytes), most(second), "kB"),
            bound(f"websocket, {long:,} tokens, the same", kilobytes(long_answer), most(long_answer), "kB"),
            bound("`notebook/static/*.js`, gzip", bundle / 1e3, 150, "kB"),
            bound("reader at the end: frames that cut it off", follows.cut_off_frames, 0, f"of {follows.frames}"),
            bound("reader in the middle: scrollTop moves by", stays.moved, 0, "px"),
        ],
    )


def side_by_side(found: Results) -> list[str]:
    rows: list[tuple[str, Figure, int]] = [
        ("long tasks in the page, sum, ms", tasks_ms, 0),
        ("the longest of them, ms", longest_ms, 0),
        ("CPU of the page's main thread, ms", page_cpu_ms, 0),
        ("the cell took, s", took_s, 2),
        ("page done after the kernel, s", late_s, 2),
        ("websocket, kB", kilobytes, 0),
        ("of these, comm messages", comm_kilobytes, 0),
        ("of these, displays and their updates", display_kilobytes, 0),
        ("of all, the protocol's headers", header_kilobytes, 0),
        ("websocket, bytes per byte of the answer", per_text, 1),
        ("messages that carry the answer", messages, 0),
        ("the same, per second", messages_per_s, 0),
        ("CPU of the kernel, µs per token", cpu_us, 0),
    ]
    lines = []
    for what, figure, digits in rows:
        first, second, baseline = (median(part, figure) for part in (found.first, found.second, found.baseline))
        lines.append(
            [what, *(number(value, digits) for value in (first, second, baseline)), ratio(second, baseline)]
        )
    floor = median(found.unseen, cpu_us)
    costs = [median(part, cpu_us) - floor for part in (found.first, found.second, found.baseline)]
    lines.append(
        [
            f"the same over reading without a view ({floor:.0f})",
            *(number(cost) for cost in costs),
            ratio(*costs[1:]),
        ]
    )
    return table(["median", "first answer", "second answer", "baseline", "second ÷ baseline"], lines)


def each_round(found: Results) -> list[str]:
    parts = {"first answer": found.first, "second answer": found.second, "baseline": found.baseline}
    return [f"- {name}: {', '.join(number(tasks_ms(one)) for one in part)}" for name, part in parts.items()]


def long_answers(found: Results) -> list[str]:
    columns: list[tuple[str, Figure, int]] = [
        ("long tasks, ms", tasks_ms, 0),
        ("longest, ms", longest_ms, 0),
        ("page CPU, ms", page_cpu_ms, 0),
        ("page done after, s", late_s, 2),
        ("websocket, kB", kilobytes, 0),
        ("per byte", per_text, 1),
        ("messages/s", messages_per_s, 0),
    ]
    rows = [
        [name, *(number(figure(answer), digits) for _, figure, digits in columns)]
        for name, answer in found.long.items()
    ]
    return table(["answer", *(column[0] for column in columns)], rows)


def scrolling(found: Results) -> list[str]:
    head = [
        "view",
        "reader",
        "frames",
        "end cut off in",
        "by at most, px",
        "scrollTop moved, px",
        "jump at swap, px",
    ]
    rows = []
    for (view, reader), answer in found.scroll.items():
        seen = answer.scroll
        assert seen is not None
        follows = reader == "bottom"
        moved = "" if follows else number(seen.moved)
        cut_off = [number(seen.cut_off_frames), number(seen.cut_off)] if follows else ["", ""]
        jump = "" if view == "baseline" else f"{seen.height_change:.0f}, {seen.blank_frames} blank frames"
        rows.append([view, reader, number(seen.frames), *cut_off, moved, jump])
    return table(head, rows)


def report(found: Results, command: str, tokens: int, long: int, load: tuple[float, float]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# The live view, measured",
        "",
        f"`{command}` on Python {platform.python_version()}, {versions}, headless Chromium with a window of "
        f"{VIEWPORT['width']} × {VIEWPORT['height']}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}. "
        f"Load of the machine (1 min) before: {load[0]:.1f}, after: {load[1]:.1f}.",
        "",
        f"A model on loopback says {RATE:,} tokens a second. The baseline is "
        "`update_display(Markdown(text_so_far))` at 20 Hz over the same stream, in the same run; medians of "
        f"{len(found.first)} interleaved rounds, each in a fresh notebook. "
        "Quote the ratios: on a shared machine single figures cannot be trusted.",
        "",
        "## Bounds",
        "",
        *bounds(found, tokens, long),
        f"## {tokens:,} tokens of prose, side by side",
        "",
        *side_by_side(found),
        "Long tasks (> 50 ms) from the cell's start until the page is done, in ms, round by round:",
        "",
        *each_round(found),
        "",
        "The first answer also brings the front end's code to the page. Bytes are those of whole messages with "
        "their headers, before compression. A page can be done before its kernel, which sends the end earlier.",
        "",
        "## Long and awkward answers",
        "",
        "The second answer of a notebook, after a short one; one round.",
        "",
        *long_answers(found),
        "## Scrolling",
        "",
        "Every frame, right before it is painted. `bottom`: the reader sees the end of the answer and does "
        "nothing. `middle`: the reader has turned the wheel to the middle of it. Jump at swap: the greatest "
        "change of the output's height in one frame when the live view gives way to the static one.",
        "",
        *scrolling(found),
    ]
    return "\n".join(lines).rstrip() + "\n"
