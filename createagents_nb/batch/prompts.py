"""The prompts of a batch: a column of texts, or a template filled in from each row."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigurationError, InvalidMessageError
from ..template import ColumnName, parse_columns

__all__ = ["Prompts", "read_prompts"]

VALUE = "value"
"""Column name by which a template refers to data without columns."""
_MAX_NAMES = 30


@dataclass(frozen=True, slots=True)
class Prompts:
    """One prompt for each row, in order.

    Attributes:
        index: index of the data; a `RangeIndex` where it has none.
        texts: the prompt, or an error for a row without one.
    """

    index: pd.Index
    texts: list[str | InvalidMessageError]


def read_prompts(data: Any, template: str | None) -> Prompts:
    """Return the prompts for the rows of ``data``; see `CreateAgent.map` for both arguments.

    Raises:
        ConfigurationError: ``data`` has an unsupported type, or the template is malformed or names a column that
            does not exist.
    """
    index = _index_of(data, template)
    if template is None:
        if isinstance(data, pd.DataFrame):
            raise ConfigurationError(
                "A DataFrame needs a template, as in agent.map(df, 'Classify {{review}}'); or give one of its "
                f"columns, agent.map(df['review']). Columns: {_joined([str(label) for label in data.columns])}"
            )
        return Prompts(index, [_check_prompt(value) for value in data])
    if not isinstance(template, str):
        raise ConfigurationError(f"template must be a text with {{{{column}}}} in it, not {template!r}")
    parts = parse_columns(template)
    names = list(dict.fromkeys(part.name for part in parts if isinstance(part, ColumnName)))
    columns = _columns(data, names)
    if not names:
        raise ConfigurationError(
            "The template names no column, so all rows would get the same prompt: write {{column}} where its "
            "value belongs"
        )
    rows = zip(*columns.values(), strict=True)
    return Prompts(index, [_fill_in(parts, dict(zip(columns, row, strict=True))) for row in rows])


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


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────


def _check_prompt(value: Any) -> str | InvalidMessageError:
    if isinstance(value, str):
        text = str(value)  # numpy has a string class of its own
        return text if text.strip() else InvalidMessageError("The prompt is empty")
    if _is_missing(value):
        return InvalidMessageError("There is no prompt in this row (NA)")
    return InvalidMessageError(
        f"The prompt must be a string, not {type(value).__name__}: series.astype(str), or a template with "
        "{{value}}"
    )


def _fill_in(parts: Sequence[str | ColumnName], row: Mapping[str, Any]) -> str | InvalidMessageError:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        value = row[part.name]
        if _is_missing(value):
            return InvalidMessageError(f"{{{{{part.name}}}}} has no value in this row (NA)")
        texts.append(str(value))
    return _check_prompt("".join(texts))


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────


def _columns(data: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each named column, in order of rows."""
    if isinstance(data, pd.DataFrame):
        return {name: list(data.iloc[:, _position(name, list(data.columns))]) for name in names}
    available = [VALUE]
    if isinstance(data, pd.Series) and isinstance(data.name, str) and data.name != VALUE:
        available.append(data.name)
    for name in names:
        if name not in available:
            raise ConfigurationError(_unknown_column(name, available))
    values = list(data)
    return dict.fromkeys(names, values)


def _position(name: str, labels: list[Any]) -> int:
    """Return the position of the column called ``name``; a string label wins over one that only prints so."""
    positions = [at for at, label in enumerate(labels) if label == name and isinstance(label, str)]
    positions = positions or [at for at, label in enumerate(labels) if str(label) == name]
    if not positions:
        raise ConfigurationError(_unknown_column(name, [str(label) for label in labels]))
    if len(positions) > 1:
        raise ConfigurationError(f"{{{{{name}}}}}: {len(positions)} columns have this name; give one another")
    return positions[0]


def _unknown_column(name: str, available: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, available, n=1)
    hint = f" (did you mean {{{{{close[0]}}}}}?)" if close else ""
    return (
        f"{{{{{name}}}}}: there is no such column{hint}. Known: {_joined(available)}. "
        "Write \\{{ for two braces that stay"
    )


def _joined(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "none"
