"""Hostile results in tool cards: a table's cells and names, a tool's name, what stands beside an image."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from family import png
from hostile import HOSTILE, NAMES, aimed, turn_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_markdown_safety import assert_harmless

from createagents_nb.core.tool_display import ImageDisplay, TableDisplay, ToolDisplay
from createagents_nb.render.snapshot import Block, ToolLine
from createagents_nb.tools.display import make_display

pytestmark = pytest.mark.once

PAYLOADS = [aimed(payload) for payload in [*HOSTILE, *NAMES]]


def names(*labels: str) -> pd.Index[Any]:
    return pd.Index(labels, dtype=object)


def displays_of(payload: str) -> list[ToolDisplay]:
    """Tables that hold ``payload`` in every place that a table has, and an image."""
    # pandas itself refuses half a surrogate pair in these.
    whole = payload.encode("utf-8", "replace").decode()
    levels = pd.MultiIndex.from_tuples([(whole, whole)], names=[payload, payload])
    tables: list[Any] = [
        pd.DataFrame([[payload, "1"], [payload, payload]], columns=names(payload, "a"), dtype=object),
        pd.DataFrame([[1.5]], columns=names(payload), index=names(payload).rename(payload)),
        pd.DataFrame([[payload]], index=levels, columns=levels, dtype=object),
        pd.Series([payload] * 2, name=payload, index=names(payload, "x"), dtype=object),
        pd.DataFrame({"a": pd.Categorical.from_codes([0], categories=names(payload))}),
    ]
    displays = [make_display(table) for table in tables]
    assert all(isinstance(display, TableDisplay) for display in displays)
    # By hand, a display may hold anything.
    by_hand = TableDisplay((payload,), ((payload,),), 1, 1)
    return [display for display in displays if display] + [by_hand, ImageDisplay("image/png", png())]


def cards_of(payload: str) -> tuple[Block, ...]:
    return tuple(
        ToolLine(
            tool_call_id=str(number), name=payload, arguments="{}", status="ok", result=payload, display=display
        )
        for number, display in enumerate(displays_of(payload))
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_hostile_survives_in_a_table_or_beside_an_image(payload: str) -> None:
    assert_harmless(turn_of("x", blocks=cards_of(payload)))
    for card in cards_of(payload):
        assert_harmless(turn_of("x", blocks=(card,)))


def test_two_cells_cannot_hide_half_a_payload_each() -> None:
    for first in PAYLOADS[::3]:
        frame = pd.DataFrame([PAYLOADS[:20], [first] * 20], columns=names(*PAYLOADS[20:40]), dtype=object)
        table = make_display(frame)
        card = ToolLine(tool_call_id="1", name="f", arguments="{}", status="ok", result="x", display=table)
        assert_harmless(turn_of("x", blocks=(card,)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([*PAYLOADS, *"|\\`$[]<>&\n", "\\|", "a|b"]), max_size=8).map("".join) | st.text())
def test_any_cell_is_harmless(text: str) -> None:
    assert_harmless(turn_of("x", blocks=cards_of(text)))
