"""Rows to prompts: a column of texts as it is, or a template that is filled in from each row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigurationError, InvalidMessageError

__all__ = ["Prompts", "read_prompts"]

VALUE = "value"
"""What a template calls the rows of data that has no columns."""
_MAX_NAMES = 30
# Of three braces the inner two count: `{{{x}}}` is a value in single braces.
_OPEN = re.compile(r"\\\{\{|\{\{(?!\{)")


@dataclass(frozen=True, slots=True)
class Prompts:
    """One for each row, in order.

    Attributes:
        index: of the data; a `RangeIndex` where it has none.
        texts: the prompt, or why the row has none.
    """

    index: pd.Index
    texts: list[str | InvalidMessageError]


def read_prompts(data: Any, template: str | None) -> Prompts:
    """The prompts of ``data``; see `CreateAgent.map` for what both may be.

    Raises:
        ConfigurationError: it is no data, or the template names what is not there.
    """
    index = _index_of(data, template)
    if template is None:
        if isinstance(data, pd.DataFrame):
            raise ConfigurationError(
                "A DataFrame needs a template, as in agent.map(df, 'Classify {{review}}'); or give one of its "
                f"columns, agent.map(df['review']). Columns: {_listed([str(one) for one in data.columns])}"
            )
        return Prompts(index, [_checked(value) for value in data])
    if not isinstance(template, str):
        raise ConfigurationError(f"template must be a text with {{{{column}}}} in it, not {template!r}")
    pieces = _pieces(template)
    names = list(dict.fromkeys(name for _, name in pieces if name is not None))
    columns = _columns(data, names)
    if not names:
        raise ConfigurationError(
            "The template names no column, so all rows would get the same prompt: write {{column}} where its "
            "value belongs"
        )
    rows = zip(*columns.values(), strict=True)
    return Prompts(index, [_filled_in(pieces, dict(zip(columns, row, strict=True))) for row in rows])


def _index_of(data: Any, template: Any) -> pd.Index:
    if isinstance(data, pd.DataFrame | pd.Series):
        return data.index
    if isinstance(data, list | tuple | pd.Index | pd.api.extensions.ExtensionArray):
        return pd.RangeIndex(len(data))
    if isinstance(data, np.ndarray) and data.ndim == 1:
        return pd.RangeIndex(len(data))
    what = f"an array of {data.ndim} dimensions" if isinstance(data, np.ndarray) else type(data).__name__
    hint = "; for one prompt: agent.chat" if isinstance(data, str) and template is None else ""
    raise ConfigurationError(
        "map takes a Series, a list, a tuple, an Index, an array of one dimension, or a DataFrame with a "
        f"template, not {what}{hint}"
    )


# ── one prompt ───────────────────────────────────────────────────────────────────────────────────────


def _checked(value: Any) -> str | InvalidMessageError:
    if isinstance(value, str):
        text = str(value)  # numpy's are a class of their own
        return text if text.strip() else InvalidMessageError("The prompt is empty")
    if _is_missing(value):
        return InvalidMessageError("There is no prompt in this row (NA)")
    return InvalidMessageError(
        f"The prompt must be a string, not {type(value).__name__}: series.astype(str), or a template with "
        "{{value}}"
    )


def _filled_in(pieces: Sequence[tuple[str, str | None]], row: Mapping[str, Any]) -> str | InvalidMessageError:
    texts: list[str] = []
    for text, name in pieces:
        texts.append(text)
        if name is not None:
            value = row[name]
            if _is_missing(value):
                return InvalidMessageError(f"{{{{{name}}}}} has no value in this row (NA)")
            texts.append(str(value))
    return _checked("".join(texts))


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


# ── the template ─────────────────────────────────────────────────────────────────────────────────────


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Text, and the name that follows it (None: nothing does)."""
    pieces: list[tuple[str, str | None]] = []
    text, at = "", 0
    while found := _OPEN.search(template, at):
        text += template[at : found.start()]
        at = found.end()
        if found[0].startswith("\\"):
            text += "{{"
            continue
        end = template.find("}}", at)
        if end < 0:
            raise ConfigurationError(
                "The template has a {{ without its }}: close it, or write \\{{ for two braces"
            )
        pieces.append((text, template[at:end].strip()))
        text, at = "", end + 2
    return [*pieces, (text + template[at:], None)]


def _columns(data: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    if isinstance(data, pd.DataFrame):
        return {name: list(data.iloc[:, _place(name, list(data.columns))]) for name in names}
    known = [VALUE]
    if isinstance(data, pd.Series) and isinstance(data.name, str) and data.name != VALUE:
        known.append(data.name)
    for name in names:
        if name not in known:
            raise ConfigurationError(_unknown(name, known))
    values = list(data)
    return dict.fromkeys(names, values)


def _place(name: str, labels: list[Any]) -> int:
    found = [place for place, label in enumerate(labels) if label == name and isinstance(label, str)]
    found = found or [place for place, label in enumerate(labels) if str(label) == name]
    if not found:
        raise ConfigurationError(_unknown(name, [str(label) for label in labels]))
    if len(found) > 1:
        raise ConfigurationError(f"{{{{{name}}}}}: {len(found)} columns have this name; give one another")
    return found[0]


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {{{{{close[0]}}}}}?)" if close else ""
    return (
        f"{{{{{name}}}}}: there is no such column{hint}. Known: {_listed(known)}. "
        "Write \\{{ for two braces that stay"
    )


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "none"
