"""Fill in the ``{{expression}}`` placeholders of a prompt with text that a model can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CreateAgentsError, InterpolationError
from ..template import Expression, parse_expressions, quote_expression
from ..text import one_line
from ..tools.result_text import format_frame, truncate

__all__ = ["describe", "interpolate"]

MAX_VALUE_CHARS = 20_000
_HEAD_ROWS = 5
_MAX_COLUMNS = 60
_MAX_ERROR_CHARS = 120


def interpolate(text: str, namespace: Mapping[str, Any]) -> str:
    r"""Replace every ``{{expression}}`` in ``text`` by its value, described for a model.

    Strings are inserted unchanged, a DataFrame or Series as its shape, dtypes and head in Markdown, other values
    as ``str``. Values over 20,000 characters are cut, with a note. Single braces are literal, and ``\{{`` stands
    for two braces.

    Args:
        text: the prompt.
        namespace: where names are looked up; it is not changed.

    Raises:
        InterpolationError: a name is unknown, or an expression is invalid or fails.

    Example:
        >>> interpolate("Sum of {{ [1, 2] }}: {{ 1 + 2 }}", {})
        'Sum of [1, 2]: 3'
    """
    return "".join(
        part if isinstance(part, str) else _evaluate(part, namespace) for part in parse_expressions(text)
    )


def _evaluate(expression: Expression, namespace: Mapping[str, Any]) -> str:
    source = expression.source
    try:
        return describe(eval(expression.code, dict(namespace)))  # the user's own code in the user's own namespace
    except NameError as error:
        raise InterpolationError(
            f"{quote_expression(source)}: the name {error.name or source!r} is not defined. Define it in a cell "
            "above, or send the cell as it is: --raw"
        ) from None
    except CreateAgentsError:
        raise
    except Exception as error:
        message = one_line(str(error), _MAX_ERROR_CHARS)
        raise InterpolationError(
            f"{quote_expression(source)} failed: {type(error).__name__}: {message}"
        ) from error


def describe(value: Any) -> str:
    """Return ``value`` as text for a prompt.

    Example:
        >>> describe(3)
        '3'
    """
    # Recognized by name: pandas is not imported for prompts without a frame.
    types = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__}
    if "pandas.DataFrame" in types:
        text = f"DataFrame, {format_frame(value, rows=_HEAD_ROWS, max_columns=_MAX_COLUMNS)}\n"
    elif "pandas.Series" in types:
        text = f"Series, {format_frame(value.to_frame(), rows=_HEAD_ROWS)}\n"
    else:
        text = str(value)
    return truncate(text, MAX_VALUE_CHARS)
