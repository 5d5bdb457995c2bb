"""Charts of the recorder's frames: what is drawn, what is said, and what hostile names cannot do."""

from __future__ import annotations

import io
import math
import pickle
import re
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import matplotlib
import matplotlib.patches
import pandas as pd
import pytest
from hostile import HOSTILE, NAMES, aimed
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.errors import ConfigurationError
from createagents_nb.metrics import charts
from createagents_nb.metrics.chart_style import drawable_name as drawn_name
from createagents_nb.metrics.charts import KINDS, MAX_MODELS, plot
from createagents_nb.metrics.columns import CALLS, REQUESTS, STATUSES, TOOLS
from createagents_nb.metrics.metrics_recorder import MetricsRecorder
from createagents_nb.metrics.store import Table
from createagents_nb.metrics.timeline import MAX_CALLS, timeline
from createagents_nb.text import INVISIBLE

STARTED = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n"
LANE = matplotlib.colors.to_rgba("#EEEEEE")
# Settings of Matplotlib on which a chart must not depend.
STYLE: dict[str, Any] = {
    "text.usetex": True,
    "text.color": "white",
    "axes.facecolor": "black",
    "savefig.facecolor": "black",
    "font.size": 30,
}


def at(seconds: float) -> datetime:
    return STARTED + timedelta(seconds=seconds)


class Frames:
    """Records, as a recorder would have them."""

    def __init__(self) -> None:
        self.calls = Table(CALLS, CallRecord, STATUSES["calls"])
        self.requests = Table(REQUESTS, RequestRecord, STATUSES["requests"])
        self.tools = Table(TOOLS, ToolRecord, STATUSES["tools"])

    def call(self, call_id: str, start: float = 0, latency_s: float | None = 5, **fields: Any) -> None:
        known = {"agent": "ana", "provider": "openai", "model": "gpt-4.1", "status": "ok", **fields}
        self.calls.put(CallRecord(call_id=call_id, started_at=at(start), latency_s=latency_s, **known))

    def request(self, call_id: str, start: float = 0, latency_s: float | None = 2, **fields: Any) -> None:
        known = {"round": 1, "provider": "openai", "model": "gpt-4.1", "status": "ok", **fields}
        self.requests.put(RequestRecord(call_id=call_id, started_at=at(start), latency_s=latency_s, **known))

    def tool(self, call_id: str, start: float = 2, latency_s: float | None = 1, **fields: Any) -> None:
        known = {"round": 1, "tool": "rows", "arguments": "{}", "status": "ok", "tool_call_id": "t", **fields}
        self.tools.put(ToolRecord(call_id=call_id, started_at=at(start), latency_s=latency_s, **known))

    def timeline(self, *args: Any, **options: Any) -> Figure:
        return timeline(self.calls.frame(), self.requests.frame(), self.tools.frame(), *args, **options)

    def plot(self, kind: str) -> Figure:
        return plot(self.calls.frame(), kind)


@pytest.fixture
def frames() -> Frames:
    return Frames()


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def texts(figure: Figure) -> list[str]:
    """All that is written in a chart but for its numbers on axes."""
    (axes,) = figure.axes
    if not axes.axison:
        return [text.get_text() for text in axes.texts]
    labels = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels(), *axes.texts]
    legend = [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_text() for text in [*labels, *legend] if text.get_text()]


def said(figure: Figure) -> str:
    return "\n".join(texts(figure))


def bars(figure: Figure) -> list[matplotlib.patches.Rectangle]:
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, matplotlib.patches.Rectangle)]
    return [patch for patch in patches if patch.get_facecolor() != LANE]


def drawn(figure: Figure) -> bytes:
    png = figure._repr_png_()  # type: ignore[attr-defined]
    assert isinstance(png, bytes)
    assert png.startswith(PNG)
    return png


def three_rounds(frames: Frames, call_id: str, start: float = 0) -> None:
    frames.call(call_id, start, 9, cost_usd=0.01, input_tokens=10, output_tokens=5)
    frames.request(call_id, start, 2, ttft_s=0.5)
    for number, (tool, length) in enumerate({"search": 1.4, "rows": 0.3, "read": 2.0}.items()):
        frames.tool(call_id, start + 2, length, tool=tool, tool_call_id=f"t{number}")
    frames.request(call_id, start + 4, 1.5, ttft_s=0.5, round=2)
    frames.request(call_id, start + 6, 3, ttft_s=0.5, round=3)


# Timeline


def test_a_lane_has_its_requests_in_two_parts_and_its_tools_in_rows_of_their_own(frames: Frames) -> None:
    three_rounds(frames, "c1")
    figure = frames.timeline()
    found = {(bar.get_x(), round(bar.get_width(), 6)) for bar in bars(figure)}
    assert found == {(0, 0.5), (0.5, 1.5), (4, 0.5), (4.5, 1), (6, 0.5), (6.5, 2.5), (2, 1.4), (2, 0.3), (2, 2)}
    tools = [bar for bar in bars(figure) if bar.get_x() == 2]
    assert len({bar.get_y() for bar in tools}) == 3
    for name in ("search", "rows", "read", "ana · gpt-4.1", "c1 · done · 9.0 s", "2026-03-01 12:30:15 UTC"):
        assert name in said(figure)


def test_tools_one_after_the_other_share_a_row(frames: Frames) -> None:
    frames.call("c1", 0, 60)
    for number in range(3):
        frames.tool("c1", 20 * number, 5, tool_call_id=f"t{number}")
    assert len({bar.get_y() for bar in bars(frames.timeline())}) == 1


def test_calls_count_from_the_earliest_start_and_lanes_do_not_overlap(frames: Frames) -> None:
    for number in range(5):
        three_rounds(frames, f"c{number}", 100 - number)
    figure = frames.timeline()
    lanes = [patch for patch in figure.axes[0].patches if patch not in bars(figure)]
    assert sorted(lane.get_x() for lane in lanes) == pytest.approx([0, 1, 2, 3, 4])  # type: ignore[attr-defined]
    labels = [label.get_text().split("\n")[1][:2] for label in figure.axes[0].get_yticklabels()]
    assert labels == ["c4", "c3", "c2", "c1", "c0"]
    spans = sorted((lane.get_y(), lane.get_y() + lane.get_height()) for lane in lanes)  # type: ignore[attr-defined]
    assert all(above[1] <= below[0] for above, below in pairwise(spans))


def test_only_the_calls_that_were_asked_for(frames: Frames) -> None:
    for number in range(5):
        three_rounds(frames, f"c{number}", number)
    figure = frames.timeline(["c3", "c1"])
    assert len(figure.axes[0].get_yticklabels()) == 2
    assert "Timeline of 2 calls" in said(figure)
    assert len(frames.timeline(frames.calls.frame()["call_id"].tail(2)).axes[0].get_yticklabels()) == 2


def test_the_recorder_draws_its_own_calls() -> None:
    recorder = MetricsRecorder()
    recorder.record_success_metrics("gpt-4.1", time.time(), None, "openai")
    assert "Timeline of 1 call" in said(recorder.timeline())
    assert "Timeline of 1 call" in said(recorder.timeline(-1))
    assert "Latency of 1 call" in said(recorder.plot())
    with pytest.raises(ConfigurationError, match="no call"):
        recorder.timeline(["c2"])


@pytest.mark.parametrize(
    ("status", "word", "hatch"),
    [
        ("error", "failed", "xxxx"),
        ("timeout", "timed out", "xxxx"),
        ("unknown_tool", "rejected: unknown tool", "xxxx"),
        ("cancelled", "stopped", "////"),
        ("running", "running", None),
    ],
)
def test_states_are_told_in_words_and_by_hatch(frames: Frames, status: str, word: str, hatch: str | None) -> None:
    frames.call("c1", 0, 30)
    frames.tool("c1", 0, 25, status=status)
    figure = frames.timeline(now=at(40))
    (bar,) = bars(figure)
    assert bar.get_hatch() == hatch
    assert f"rows · {word}" in texts(figure)


def test_a_failed_request_says_so_however_short(frames: Frames) -> None:
    frames.call("c1", 0, 100, status="error")
    frames.request("c1", 99.9, 0.1, status="error")
    assert "failed" in texts(frames.timeline())


def test_what_runs_ends_now_with_an_open_end(frames: Frames) -> None:
    frames.call("c1", 0, None, status="running")
    frames.request("c1", 1, None, status="running")
    figure = frames.timeline(now=at(11))
    (bar,) = bars(figure)
    assert (bar.get_x(), bar.get_width()) == pytest.approx((1, 10))
    (mark,) = figure.axes[0].lines
    assert (mark.get_marker(), list(mark.get_xdata())) == (">", [11])  # type: ignore[arg-type]
    assert "running" in texts(figure)


def test_what_never_ended_in_a_call_that_has_ends_with_it(frames: Frames) -> None:
    frames.call("c1", 0, 5, status="cancelled")
    frames.tool("c1", 2, None, status="running")
    (bar,) = bars(frames.timeline(now=at(1_000_000)))
    assert bar.get_x() + bar.get_width() == pytest.approx(5)


def test_now_may_be_before_the_start(frames: Frames) -> None:
    frames.call("c1", 5, None, status="running")
    frames.request("c1", 5, None, status="running")
    (bar,) = bars(frames.timeline(now=at(0)))
    assert (bar.get_x(), bar.get_width()) == (0, 0)


def test_of_many_calls_the_last_ones_are_drawn(frames: Frames) -> None:
    for number in range(60):
        frames.call(f"c{number}", number)
    figure = frames.timeline()
    assert f"the last {MAX_CALLS} of 60 calls" in said(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == MAX_CALLS
    assert "c59" in labels[-1]


def test_of_many_calls_with_many_tools_as_many_as_fit(frames: Frames) -> None:
    for number in range(30):
        frames.call(f"c{number}", number)
        for tool in range(15):
            frames.tool(f"c{number}", number, 1, tool_call_id=f"t{tool}")
    figure = frames.timeline()
    assert 1 < len(figure.axes[0].get_yticklabels()) < 10
    assert "of 30 calls" in said(figure)
    assert figure.get_figheight() < 40


def test_of_very_many_tools_at_once_not_all_are_drawn_and_the_title_says_so(frames: Frames) -> None:
    frames.call("c1", 0, 10)
    for number in range(100):
        frames.tool("c1", 0, 5, tool_call_id=f"t{number}")
    figure = frames.timeline()
    assert f"({100 - len(bars(figure))} tool calls not drawn)" in said(figure)
    assert figure.get_figheight() < 40


def test_what_is_not_known_is_no_error(frames: Frames) -> None:
    frames.call("c1", 0, None, agent="", provider="", model="")
    frames.request("c1", 0, None, model="")
    frames.tool("c1", 0, None, tool="")
    figure = frames.timeline()
    assert "c1 · done · time not known" in said(figure)
    drawn(figure)


def test_a_time_without_end_is_not_known(frames: Frames) -> None:
    frames.call("c1", 0, math.inf, ttft_s=math.inf)
    frames.request("c1", 0, math.inf, ttft_s=1)
    figure = frames.timeline()
    assert "c1 · done · time not known" in said(figure)
    assert [bar.get_width() for bar in bars(figure)] == [0, 0]
    assert "first token · not known" in said(frames.plot("latency"))


def test_a_frame_of_nothing_but_na(frames: Frames) -> None:
    frames.call("c1")
    calls, requests, tools = (table.frame() for table in (frames.calls, frames.requests, frames.tools))
    for column in calls.columns.drop("call_id"):
        calls[column] = pd.Series(pd.NA, index=calls.index).astype(calls[column].dtype)
    assert texts(timeline(calls, requests, tools)) == ["no call has a known start"]
    assert "latency · not known" in said(plot(calls, "latency"))
    assert "in not known · out not known" in said(plot(calls, "tokens"))
    assert "no call of known cost yet" in said(plot(calls, "cost"))


# By model


def test_latency_is_told_by_model_beside_the_first_token(frames: Frames) -> None:
    for number in range(1, 6):
        frames.call(f"a{number}", number, number, ttft_s=number / 10)
        frames.call(f"b{number}", number, 2 * number, model="qwen3", provider="ollama")
    frames.call("c", 9, 40, status="error")
    frames.call("d", 9, None, status="running")
    figure = frames.plot("latency")
    assert "openai/gpt-4.1\nlatency · median 3.0 s of 5" in texts(figure)
    assert "first token · median 0.30 s of 5" in texts(figure)
    assert "ollama/qwen3\nlatency · median 6.0 s of 5" in texts(figure)
    assert "first token · not known" in texts(figure)
    assert "1 running" in said(figure)
    assert "failed or stopped, not in the box" in texts(figure)
    assert figure.axes[0].get_xlim()[1] > 40


def test_tokens_are_stacked_with_cached_and_reasoning_as_parts(frames: Frames) -> None:
    frames.call("a", input_tokens=100, cached_tokens=60, output_tokens=50, reasoning_tokens=20)
    frames.call("b", input_tokens=100, output_tokens=50)
    frames.call("c")
    figure = frames.plot("tokens")
    found = [(bar.get_x(), bar.get_width()) for bar in bars(figure)]
    assert found == [(0, 140), (140, 60), (200, 80), (280, 20)]
    assert [bar.get_hatch() for bar in bars(figure)] == [None, "////", None, "...."]
    assert "200 in · 100 out" in texts(figure)
    assert "1 of unknown count" in said(figure)


def test_a_part_is_never_more_than_the_whole(frames: Frames) -> None:
    frames.call("a", input_tokens=10, cached_tokens=1_000, reasoning_tokens=7)
    (bar,) = bars(frames.plot("tokens"))
    assert bar.get_width() == 10


def test_cost_adds_up_and_says_what_is_not_known(frames: Frames) -> None:
    frames.call("a", 0, cost_usd=0.25)
    frames.call("b", 60, cost_usd=0.5)
    frames.call("c", 120, cost_usd=1.0, model="gpt-4.1-mini")
    frames.call("d", 180, model="qwen3", provider="ollama")
    figure = frames.plot("cost")
    assert r"Cost of 3 calls: \$1.75 (cost of 1 call not known)" in texts(figure)
    assert {r"\$0.75 · openai/gpt-4.1", r"\$1.00 · openai/gpt-4.1-mini", r"\$1.75 · all models"} <= {
        *texts(figure)
    }
    ends = {str(line.get_label())[2:6]: list(line.get_ydata())[-1] for line in figure.axes[0].lines}  # type: ignore[arg-type]
    assert ends == {"0.75": 0.75, "1.00": 1.0, "1.75": 1.75}


def test_cost_of_calls_none_of_which_has_one(frames: Frames) -> None:
    frames.call("a")
    assert texts(frames.plot("cost")) == ["no call of known cost yet (cost of 1 call not known)"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_models_are_not_all_drawn_and_the_title_says_so(frames: Frames, kind: str) -> None:
    for number in range(30):
        frames.call(f"c{number}", number, model=f"m{number}", input_tokens=1, output_tokens=1, cost_usd=0.1)
    figure = frames.plot(kind)
    left_out = 30 - (len(charts._LINES) if kind == "cost" else MAX_MODELS)
    assert f"{left_out} models" in said(figure)


def test_one_call_is_enough(frames: Frames) -> None:
    frames.call("a", 0, 0, input_tokens=1, output_tokens=1, cost_usd=0.0001, ttft_s=0)
    for figure in every_chart(frames):
        drawn(figure)


def test_many_calls_are_no_heavy_picture(frames: Frames) -> None:
    for number in range(6_000):
        frames.call(f"c{number}", number, number % 7, input_tokens=1, output_tokens=1, cost_usd=0.0001)
    latency, tokens, cost = (frames.plot(kind).axes[0] for kind in KINDS)
    assert max(len(each.get_offsets()) for each in latency.collections) < 500  # type: ignore[arg-type]
    assert len(tokens.patches) == 2
    steps = list(cost.lines[0].get_ydata())  # type: ignore[arg-type]
    assert len(steps) < 2_500
    assert steps[-1] == pytest.approx(0.6)


@pytest.mark.parametrize("kind", ["speed", "", "Latency", None])
def test_an_unknown_kind_names_the_three(frames: Frames, kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="latency, tokens, cost"):
        frames.plot(kind)


# Figures


def every_chart(frames: Frames) -> list[Figure]:
    return [frames.timeline(), *(frames.plot(kind) for kind in KINDS)]


def test_empty_frames_say_so(frames: Frames) -> None:
    for figure in every_chart(frames):
        assert texts(figure) == ["no calls yet"]
    drawn(figure)


def test_a_chart_is_a_figure_that_can_be_changed_saved_and_pickled(frames: Frames) -> None:
    three_rounds(frames, "c1")
    figures = every_chart(frames)
    for figure in figures:
        figure.axes[0].set_title("mine")
        assert "mine" in texts(pickle.loads(pickle.dumps(figure)))
    before = drawn(figures[0])
    figures[0].axes[0].set_title("yours")
    assert drawn(figures[0]) != before
    saved = io.BytesIO()
    figures[0].savefig(saved, format="svg")
    assert b"<svg" in saved.getvalue()


def test_a_chart_shows_itself_as_a_picture(frames: Frames) -> None:
    frames.call("c1")
    data, _ = DisplayFormatter().format(frames.timeline())
    assert data["image/png"].startswith(PNG)
    assert "text/html" not in data
    assert data["text/plain"].startswith("<Chart size ")
    picture = matplotlib.image.imread(io.BytesIO(data["image/png"]))
    assert picture[0, 0].tolist() == [1, 1, 1, 1]  # white, also in a dark notebook


def settings() -> dict[str, Any]:
    """Matplotlib's, but for the backend, which pyplot chooses when it is asked for."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


@pytest.mark.once
def test_a_chart_looks_the_same_under_any_style_and_does_without_pyplot(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # to import it is an error
    three_rounds(frames, "c1")
    frames.call("c2", cost_usd=0.1, input_tokens=10, output_tokens=10)
    expected = [drawn(figure) for figure in (frames.timeline(), frames.plot("cost"))]
    with matplotlib.rc_context(STYLE):
        before = settings()
        assert [drawn(figure) for figure in (frames.timeline(), frames.plot("cost"))] == expected
        assert settings() == before


def test_without_matplotlib_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chart_style", "timeline", "charts"):
        monkeypatch.delitem(sys.modules, f"createagents_nb.metrics.{name}")
        monkeypatch.delattr(f"createagents_nb.metrics.{name}")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    recorder = MetricsRecorder()
    for draw in (recorder.timeline, recorder.plot):
        with pytest.raises(ConfigurationError, match=r"pip install 'createagents-nb\[plot\]'"):
            draw()


# Hostile names

EVIL = [
    "$x^2$ \\$y$ \\frac{1",
    "\\$x$ $\\href{javascript:alert(1)}{x}$ \\input{/etc/passwd}",
    "模型名字很长" * 50,
    "\x1b[31mred\x1b[0m\r\n\n\u202eevil\u200b",
    "😀 עברית مرحبا \U0001f9ff \U000f0000",
    "half \ud800 a pair \udfff",
    "a" * 100_000,
    "a\u0301\u0301\u0301" * 500,
    "_nolegend_",
    *[aimed(payload) for payload in [*HOSTILE, *NAMES]],
]


@pytest.mark.once
@pytest.mark.parametrize("payloads", [EVIL[:5], EVIL[5:9]], ids=["typeset", "long"])
def test_hostile_names_are_drawn_as_text(frames: Frames, payloads: list[str]) -> None:
    for number, payload in enumerate(payloads):
        call_id = f"c{number}"
        frames.call(call_id, 0, 5, agent=payload, model=payload, provider=payload, cost_usd=0.1, input_tokens=5)
        frames.call(payload, 1, 5, model=payload, cost_usd=0.1)
        frames.request(call_id, 0, 2, model=payload, ttft_s=0.1)
        frames.tool(call_id, 2, 1, tool=payload)
        frames.tool(call_id, 2, 1, tool=payload, status="error", tool_call_id=payload)
    for figure in every_chart(frames):
        for text in texts(figure):
            assert not matplotlib.cbook.is_math_text(text)
    drawn(frames.plot("cost"))
    frames.timeline().savefig(io.BytesIO(), format="png", bbox_inches="tight")  # as an inline backend does


def test_hostile_names_are_short_clean_and_no_formula() -> None:
    for payload in EVIL:
        name = drawn_name(payload)
        assert len(name.replace(r"\$", "$")) <= 26
        assert not re.search(f"{INVISIBLE}|\n", name)
        assert not matplotlib.cbook.is_math_text(f"{name} · {name}")


def test_a_missing_glyph_is_silent_only_in_our_charts(frames: Frames) -> None:
    frames.call("c1", agent="\U000f0000")
    drawn(frames.timeline())
    other = Figure()
    other.text(0.5, 0.5, "\U000f0000")
    with pytest.warns(UserWarning, match="Glyph"):
        other.savefig(io.BytesIO(), format="png")
