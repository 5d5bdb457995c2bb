"""A tool call as a card: the call, its state and its result. All tags are written here."""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape

from ..core.tool_display import ImageDisplay, TableDisplay
from ..text import one_line, shorten
from . import styles
from .labels import call_of, pretty_arguments, tool_state
from .markdown_writer import UnsafeMarkdownError, code_span, escape_markdown, is_inert
from .snapshot import ToolLine

__all__ = ["tool_card_html", "tool_card_markdown"]

MAX_VALUE_CHARS = 10_000
"""Limit for arguments and for a result."""
FOLDED_CHARS, FOLDED_LINES = 1_500, 20
"""Longer values show this much, with the rest folded."""
MAX_ROWS = MAX_COLUMNS = 20
MAX_CELL_CHARS = 200
WRAPPED_CHARS = 30
"""Longer cells are wrapped."""

_NUMBER = re.compile(r"[-+]?(?:[\d,]*\.?\d+|\d+\.)(?:e[-+]?\d+)?%?|[-+]?inf", re.IGNORECASE)
_UNKNOWN = {"", "NaN", "nan", "<NA>", "None"}


def tool_card_html(tool: ToolLine, show_round: bool) -> str:
    """Render a tool call as a card, folded unless it shows an image or waits for approval.

    The card is safe in any trust state.

    Args:
        tool: a running or ended call.
        show_round: whether to show its round.
    """
    state = escape(" · ".join(tool_state(tool, show_round)))
    image = isinstance(tool.display, ImageDisplay) and tool.display.is_showable
    is_open = image or tool.status == "waiting"
    html = (
        f'<details class="createagents-tool" style="{styles.BOX}"{" open" if is_open else ""}>'
        f'<summary style="{styles.SUMMARY}"><code>{escape(call_of(tool))}</code> '
        f'<span style="{styles.STATE}">— {state}</span></summary>\n'
        + _text_html("Arguments", pretty_arguments(tool.arguments))
    )
    if tool.result is not None:
        html += _result_html(tool, tool.result)
    return html + "</details>\n"


def _result_html(tool: ToolLine, result: str) -> str:
    match tool.display:
        case TableDisplay() as table:
            return _label("Result · " + _extent(table)) + _table_html(table)
        case ImageDisplay(mime, data) as image if image.is_showable:
            source = f"data:{mime};base64,{b64encode(data).decode('ascii')}"
            alt = escape(f"image returned by {one_line(tool.name, 60)}")
            return (
                _label(f"Result · {image}")
                + f'<img class="createagents-image" alt="{alt}" src="{source}" style="{styles.PICTURE}">\n'
            )
    return _text_html("Result" if tool.status == "ok" else "Error", result)


def _label(text: str) -> str:
    return f'<div style="{styles.LABEL}">{escape(text)}</div>\n'


def _text_html(label: str, value: str) -> str:
    shown, left_out = shorten(value, MAX_VALUE_CHARS, lines=MAX_VALUE_CHARS)
    head, folded = shorten(value, FOLDED_CHARS, FOLDED_LINES)
    html = _label(label)
    if not folded:
        return html + _pre(head or "(empty)")
    total = f"{len(shown) + left_out:,} characters"
    summary = f"Show {len(shown):,} of {total}" if left_out else f"Show all {total}"
    html += _pre(head + "…") + (
        f'<details style="{styles.FOLD}"><summary style="{styles.FOLD_SUMMARY}">{summary}</summary>\n'
        f"{_pre(shown)}</details>\n"
    )
    if left_out:
        html += _label(f"… {left_out:,} more characters, not shown: see recorder.tools")
    return html


def _pre(text: str) -> str:
    return f'<pre dir="auto" style="{styles.VALUE}"><code>{escape(text, quote=False)}</code></pre>\n'


# Tables


def _extent(table: TableDisplay) -> str:
    """``1,000 rows × 5 columns, first 20 shown``."""
    rows, columns = len(table.rows[:MAX_ROWS]), len(table.columns[:MAX_COLUMNS]) - table.index_columns
    words = f"{_count(table.total_rows, 'row')} × {_count(table.total_columns, 'column')}"
    if not table.columns:
        return words
    if columns < table.total_columns:
        cut = f"{rows:,} rows and {columns:,} columns" if rows < table.total_rows else f"{columns:,} columns"
        return f"{words}, first {cut} shown"
    return f"{words}, first {rows:,} shown" if rows < table.total_rows else words


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _lines(table: TableDisplay) -> tuple[list[list[str]], list[bool]]:
    """Column names and rows, cleaned and within limits, and whether each column is numeric."""
    lines = [
        [one_line(cell, MAX_CELL_CHARS) for cell in line[:MAX_COLUMNS]]
        for line in (table.columns, *table.rows[:MAX_ROWS])
    ]
    columns = list(zip(*lines[1:], strict=True))
    numeric = [
        all(cell in _UNKNOWN or _is_number(cell) for cell in column) and not _UNKNOWN.issuperset(column)
        for column in columns
    ]
    return lines, numeric or [False] * len(lines[0])


def _is_number(cell: str) -> bool:
    return len(cell) <= WRAPPED_CHARS and _NUMBER.fullmatch(cell) is not None


def _table_html(table: TableDisplay) -> str:
    (names, *rows), numeric = _lines(table)
    if not names:
        return ""
    body = "".join(
        f"<tr>{''.join(_cell(cell, numeric[at], at < table.index_columns) for at, cell in enumerate(row))}</tr>\n"
        for row in rows
    )
    head = "".join(_cell(name, numeric[at], True, "col") for at, name in enumerate(names))
    return (
        f'<div style="{styles.TABLE_BOX}"><table style="{styles.TABLE}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _cell(text: str, number: bool, head: bool, scope: str = "row") -> str:
    tag = f'th scope="{scope}"' if head else "td"
    style = styles.NUMBER if number else styles.LONG_CELL if len(text) > WRAPPED_CHARS else styles.CELL
    return f'<{tag} dir="auto" style="{style}">{escape(text, quote=False)}</{tag[:2]}>'


# Markdown


def tool_card_markdown(tool: ToolLine) -> str:
    """Render a tool call and its state as a block quote, with its table if it has one.

    Raises:
        UnsafeMarkdownError: not all renderers would read it alike.
    """
    lines = [f"**tool** {code_span(call_of(tool))} → {escape_markdown(', '.join(tool_state(tool)))}"]
    match tool.display:
        case TableDisplay() as table:
            (names, *rows), numeric = _lines(table)
            lines += ["", _extent(table)]
            if names:
                rule = ["---:" if number else "---" for number in numeric]
                cells = [[escape_markdown(cell) for cell in line] for line in (names, *rows)]
                lines += ["", *(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:]))]
        case ImageDisplay() as image:
            lines += ["", f"image: {image}"]
    markdown = "\n".join(f"> {line}".rstrip() for line in lines)
    if not is_inert(markdown):
        raise UnsafeMarkdownError("read again with HTML on, it is more than text")
    return markdown
