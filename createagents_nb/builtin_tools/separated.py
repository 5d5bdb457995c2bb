"""Tables in text whose fields are separated by a character."""

from __future__ import annotations

import io
import re

from .window import MOST_CELLS, MOST_COLUMNS, Window, lines, table

__all__ = ["guessed_separator", "read_separated"]

# With the numbers of half of Europe, a semicolon stands beside as many commas.
_SEPARATORS = "\t;,|"
_QUOTED = re.compile(rf'(?<![^{_SEPARATORS}\r\n])"(?:[^"]++|"")*+"?')


def guessed_separator(text: str) -> str:
    """What the first 20 lines agree on with the header; a comma when there is nothing to separate.

    Not `csv.Sniffer`: a file of 1 kB can keep it, and with it the whole process, busy for hours.
    """
    head = [line for line in _QUOTED.sub("", text[:65_536]).splitlines() if line.strip(" ")][:20]

    def agreeing(separator: str) -> int:
        counts = [line.count(separator) for line in head]
        return counts.count(counts[0]) if counts and counts[0] else 0

    best = max(_SEPARATORS, key=agreeing)
    return best if agreeing(best) else ","


def read_separated(text: str, window: Window, separator: str, label: str) -> str:
    """The table, or the text as it is when that is none or would be too large a one."""
    import pandas as pd

    columns = _columns(text, separator)
    rows = MOST_CELLS // columns
    if columns <= MOST_COLUMNS:
        try:
            frame = pd.read_csv(io.StringIO(text), sep=separator, low_memory=False, nrows=rows + 1)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            return lines(text, window, f"{label}, not a regular table ({error}), so as text")
        if len(frame) <= rows:
            return table(frame, window, label)
    return lines(text, window, f"{label}, too large for a table, so as text")


def _columns(text: str, separator: str) -> int:
    """How many fields the wider of the first two records has: no later one may have more, for pandas.

    It counts no further than `MOST_COLUMNS` + 1.
    """
    field = re.compile(rf'(?:"(?:[^"]++|"")*+"?)?[^{re.escape(separator)}\r\n]*+')
    space = " " if separator == "\t" else " \t"
    blank = re.compile(rf"(?:[{space}]*+[\r\n])*+")
    widest = 1
    at = _end(blank, text, 0)
    for _ in range(2):
        for count in range(1, MOST_COLUMNS + 2):
            widest = max(widest, count)
            at = _end(field, text, at)
            if text[at : at + 1] != separator:
                break
            at += 1
        at = _end(blank, text, at)
    return widest


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
