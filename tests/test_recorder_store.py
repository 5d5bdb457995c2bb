"""Where a recorder keeps its rows: packed, in order, and never lost or doubled by an interrupt."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.metrics import column_store, frames, store
from createagents_nb.metrics.column_store import Rows
from createagents_nb.metrics.columns import CALLS, REQUESTS, STATUSES, TOOLS
from createagents_nb.metrics.store import Table

STARTED = datetime(2026, 3, 1, 12, 30, 15, 250_001, tzinfo=UTC)


def call(number: int, **known: Any) -> CallRecord:
    opened: dict[str, Any] = {"agent": "a", "provider": "demo", "model": "m", "status": "ok"}
    return CallRecord(call_id=f"{number:032x}", started_at=STARTED, **{**opened, **known})


def table() -> Table[CallRecord]:
    return Table(CALLS, CallRecord, STATUSES["calls"])


# rows

_times = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_texts = st.none() | st.text(st.characters(codec=None), max_size=8)
_labels = st.none() | st.sampled_from(["a", "b", "ü", "x" * 50])
_numbers = st.none() | st.floats(allow_nan=False)
_counts = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
_ids = st.uuids().map(lambda one: one.hex) | st.text(max_size=40)


def _records(make: type[Any], columns: Any) -> Any:
    kinds = {
        "id": _ids,
        "time": _times,
        "name": _texts,
        "text": _texts,
        "label": _labels,
        "seconds": _numbers,
        "rate": _numbers,
        "usd": _numbers,
        "count": _counts,
    }
    known = {field.name: kinds[columns[field.name]] for field in fields(make) if field.name in columns}
    needed = {"agent", "provider", "model", "status", "tool"} & set(known)
    return st.builds(make, **known | dict.fromkeys(needed, st.sampled_from(["ok", "running", "", "x" * 50])))


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "columns", "statuses"),
    [(CallRecord, CALLS, "calls"), (RequestRecord, REQUESTS, "requests"), (ToolRecord, TOOLS, "tools")],
)
def test_a_record_comes_back_as_it_was_put(make: type[Any], columns: Any, statuses: str) -> None:
    @given(st.lists(_records(make, columns), max_size=5))
    def check(records: list[Any]) -> None:
        rows: Rows[Any] = Rows(columns, make, STATUSES[statuses])
        rows.extend(records)
        assert [rows.record(index) for index in range(len(rows))] == records

    check()


def test_a_row_is_replaced_in_its_place() -> None:
    rows = Rows(CALLS, CallRecord, STATUSES["calls"])
    strange: Any = {"input_tokens": 1.5}
    rows.extend([call(0), call(1, **strange), call(2, prompt="p")])
    rows.put(1, call(1, prompt="q"))
    rows.put(0, call(0, **strange))
    assert [rows.record(index) for index in range(3)] == [
        call(0, **strange),
        call(1, prompt="q"),
        call(2, prompt="p"),
    ]


# the table


def test_rows_stand_in_the_order_in_which_calls_opened_however_they_settle() -> None:
    kept = table()
    count = 3 * store._BATCH
    for number in range(count):
        kept.put(call(number, status="running"), number)
    for number in reversed(range(count)):
        kept.put(call(number, latency_s=float(number)), number)
    frame = kept.frame()
    assert frame["latency_s"].tolist() == [float(number) for number in range(count)]
    assert frame["status"].eq("ok").all()
    assert kept._places == {}


class _Interrupted(BaseException):
    pass


def test_an_interrupt_at_any_line_of_packing_loses_and_doubles_nothing() -> None:
    files = {column_store.__file__, store.__file__}
    waits = Table.records.__code__  # Python lets no signal in between a `with` and its block
    lines = 0

    def pack_interrupted(at: int) -> Table[CallRecord]:
        """A table whose packing is interrupted at its line number ``at``, as by ■; at 0 it is not."""
        nonlocal lines
        kept = table()
        for number in range(4):
            kept.put(call(number, status="running"), number)
        assert len(kept) == 4
        for number in (2, 0, 7, 9):
            kept.put(call(number, latency_s=float(number)), number)
        kept.put(call(8, status="running"), 8)

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if frame.f_code.co_filename not in files:
                return None
            if event == "line" and frame.f_code is not waits:
                lines += 1
                if lines == at:
                    raise _Interrupted
            return trace

        lines = 0
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with suppress(_Interrupted):
                kept.records()
        finally:
            sys.settrace(before)
        return kept

    pack_interrupted(0)
    assert lines > 100
    for at in range(1, lines + 1):
        kept = pack_interrupted(at)
        kept.put(call(8, latency_s=8.0), 8)
        expected = [(0, 0.0), (1, None), (2, 2.0), (3, None), (7, 7.0), (9, 9.0), (8, 8.0)]
        assert [(int(one.call_id, 16), one.latency_s) for one in kept.records()] == expected, at


def test_a_queue_that_was_packed_and_not_emptied_is_packed_again_to_the_same() -> None:
    kept = table()
    kept.put(call(1, status="running"), 1)
    kept.put(call(2), 2)
    arrived = list(kept._arrived)
    assert len(kept) == 2
    # As if the interrupt had come before the queue was emptied.
    kept._arrived.extend(arrived)
    kept._places |= {1: 0, 2: 1}
    kept.put(call(1, latency_s=1.0), 1)
    assert [one.latency_s for one in kept.records()] == [1.0, None]


# frames


@pytest.fixture
def shares_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tables of more than a hundred thousand rows do."""
    monkeypatch.setattr(frames, "_SHARED", 0)


@pytest.mark.usefixtures("shares_memory")
def test_snapshots_of_long_tables_are_changed_neither_by_later_calls_nor_by_each_other() -> None:
    kept = table()
    taken: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for number in range(40):
        kept.put(call(number, status="running", prompt=f"p{number}"), number)
        if number % 3 == 0:
            kept.put(call(number // 2, latency_s=1.0 * number, agent=f"agent-{number}"), number // 2)
        frame = kept.frame()
        taken.append((frame, frame.copy(deep=True)))
        mine = kept.frame()
        mine.loc[0, "prompt"] = "changed"
        mine.loc[:, "latency_s"] = 5.0
        mine["status"] = "changed"
    for frame, as_taken in taken:
        pd.testing.assert_frame_equal(frame, as_taken)
    assert kept.frame()["prompt"].tolist()[20:] == [f"p{number}" for number in range(20, 40)]
    assert not kept.frame()["prompt"].eq("changed").any()


@pytest.mark.usefixtures("shares_memory")
@pytest.mark.parametrize("then", ["no more", "gone", "a call settles", "a new name", "no room"])
def test_frames_of_long_tables_are_told_apart_also_when_the_recorder_has_moved_on(then: str) -> None:
    kept: Table[CallRecord] | None = table()
    assert kept is not None
    kept.put(call(0, status="running"), 0)
    for number in range(1, 100):
        kept.put(call(number, prompt=f"p{number}"))
    first = kept.frame()
    kept.put(call(100))
    second = kept.frame()
    if then == "gone":
        kept = None
        gc.collect()
    elif then == "a call settles":
        kept.put(call(0), 0)
        kept.frame()
    elif then == "a new name":
        kept.put(call(101, model="another"))
        kept.frame()
    elif then == "no room":
        for number in range(200, 1_000):
            kept.put(call(number))
        kept.frame()
    first.loc[7, "prompt"] = "changed"
    first.loc[:, "latency_s"] = 7.0
    assert second["prompt"][7] == "p7"
    assert second["latency_s"].isna().all()
    second.iloc[8, second.columns.get_loc("prompt")] = "changed"
    assert first["prompt"][8] == "p8"
    if kept is not None:
        assert not kept.frame()["prompt"].eq("changed").any()


@pytest.mark.usefixtures("shares_memory")
def test_a_frame_can_be_worked_with_as_any_other() -> None:
    kept = table()
    for number in range(10):
        kept.put(call(number, latency_s=float(number), output_tokens=number, model=f"m{number % 2}"))
    frame = kept.frame()
    before = frame.copy(deep=True)
    assert frame["output_tokens"].cumsum().tolist()[-1] == 45
    assert frame.groupby("model", observed=True)["latency_s"].mean().tolist() == [4.0, 5.0]
    assert frame.sort_values("latency_s", ascending=False)["call_id"].iloc[0] == call(9).call_id
    assert frame.query("latency_s > 7 and status == 'ok'").shape[0] == 2
    assert frame.merge(frame, on="call_id").shape[0] == 10
    assert frame.fillna({"prompt": "none"})["prompt"].eq("none").all()
    assert frame.set_index("started_at").resample("1min")["output_tokens"].sum().tolist() == [45]
    pd.testing.assert_frame_equal(kept.frame(), before)


def test_half_a_surrogate_pair_in_a_name_becomes_a_question_mark_and_in_a_text_stays() -> None:
    kept = table()
    kept.put(call(1, model="m\ud83d", error_type="\ud83d", prompt="p\ud83d"))
    row = kept.frame().loc[0]
    assert (row["model"], row["error_type"], row["prompt"]) == ("m?", "?", "p\ud83d")


def test_more_labels_than_a_byte_counts() -> None:
    kept = table()
    for number in range(300):
        kept.put(call(number, agent=f"agent-{number}"))
        if number % 50 == 0:
            kept.frame()
    assert kept.frame()["agent"].tolist() == [f"agent-{number}" for number in range(300)]


def test_times_keep_their_microseconds() -> None:
    kept = table()
    times = [STARTED + timedelta(microseconds=number) for number in range(1000)]
    for number, started_at in enumerate(times):
        kept.put(replace(call(number), started_at=started_at))
    assert [one.started_at for one in kept.records()] == times
    assert kept.frame()["started_at"].tolist() == [pd.Timestamp(started_at) for started_at in times]
