"""The part of JSON Schema that tool parameters use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .conversation import Tool
from .stemming import content_words, fold, split_name

__all__ = ["MAX_DEPTH", "clamp", "fit_text", "resolve", "schema_type", "string_kind", "tool_vocabulary"]

MAX_DEPTH = 6
"""Limit for nested schemas: a schema may contain itself."""

_MAX_TEXT_CHARS = 10_000
"""Limit for generated text: a schema may require a billion characters."""

Schema = Mapping[str, Any]


def resolve(schema: Any, root: Schema, depth: int = 0) -> dict[str, Any]:
    """Resolve references, merge ``allOf``, and choose the first option that is not null."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return {}
    plain = dict(schema)
    if isinstance(reference := plain.pop("$ref", None), str):
        target: Any = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            target = (
                target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
            )
        plain = {**resolve(target, root, depth + 1), **plain}
    for part in plain.pop("allOf", None) or ():
        plain = {**resolve(part, root, depth + 1), **plain}
    for key in ("anyOf", "oneOf"):
        options = [resolve(option, root, depth + 1) for option in plain.pop(key, None) or ()]
        if options:
            plain = {**next((option for option in options if schema_type(option) != "null"), options[0]), **plain}
    return plain


def schema_type(schema: Schema) -> str:
    """Return ``string``, ``integer``, ``number``, ``boolean``, ``array``, ``object``, ``null`` or ``any``."""
    kind = schema.get("type")
    if isinstance(kind, (list, tuple)):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "any"


_KINDS = tuple(
    (kind, frozenset(names.split()))
    for kind, names in {
        "zone": "tz timezone timezones fuso",
        "url": "url urls uri link links endpoint website href",
        "email": "email mail recipient destinatario",
        "file": "path paths file files filename filepath document arquivo ficheiro caminho",
        "date": "date datetime day when deadline start end since until",
        "expression": "expression expr formula calculation equation expressao conta",
        "code": "code sql python script snippet statement codigo",
        "place": "city cities location place country town region address cidade local pais",
        "text": "query question text message prompt content topic term search subject body q input keywords title"
        " consulta pergunta texto mensagem assunto termo",
    }.items()
)


def string_kind(name: str, schema: Schema) -> str:
    """Guess what a string parameter contains from its format, name and description.

    >>> string_kind("tz", {}), string_kind("file_path", {}), string_kind("x", {"format": "email"})
    ('zone', 'file', 'email')
    """
    formats = {"uri": "url", "url": "url", "email": "email", "date": "date", "date-time": "date", "time": "date"}
    if (kind_of_format := formats.get(str(schema.get("format")))) is not None:
        return kind_of_format
    words = split_name(name)
    description = fold(str(schema.get("description") or ""))
    if "zone" in words or "time zone" in description or "timezone" in description or "iana" in description.split():
        return "zone"
    for kind, names in _KINDS:
        if names.intersection(words):
            return kind
    return "other"


def clamp(value: float, schema: Schema) -> int | float:
    """Adjust ``value`` to ``minimum``, ``maximum``, ``multipleOf`` and an integer type."""
    is_integer = schema_type(schema) == "integer"
    number: int | float = round(value) if is_integer else value
    low, high = schema.get("minimum"), schema.get("maximum")
    step = schema.get("multipleOf")
    nudge: int | float = step or (1 if is_integer else 1e-3)
    if isinstance(above := schema.get("exclusiveMinimum"), (int, float)) and not isinstance(above, bool):
        low = above + nudge if low is None else max(low, above + nudge)
    if isinstance(below := schema.get("exclusiveMaximum"), (int, float)) and not isinstance(below, bool):
        high = below - nudge if high is None else min(high, below - nudge)
    if high is not None:
        number = min(number, high)
    if low is not None:
        number = max(number, low)
    if step:
        number = round(number / step) * step
        if low is not None and number < low:
            number += step
        if high is not None and number > high:
            number -= step
    if is_integer or (isinstance(number, float) and number.is_integer() and not step):
        return int(number)
    return number


_SAMPLES = (
    "demo",
    "a",
    "A",
    "abc",
    "ABC",
    "1",
    "12",
    "123",
    "1234",
    "2025-01-01",
    "12:00",
    "a1",
    "A1",
    "+15550100",
    "#ffffff",
)


def fit_text(text: str, schema: Schema, message: str) -> str:
    """Adjust ``text`` to ``pattern``, ``minLength`` and ``maxLength`` if possible.

    For ``pattern``, it tries the words of ``message``, then samples.
    """
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        try:
            search = re.compile(pattern).search
        except re.error:
            search = re.compile("").search
        if not search(text):
            words = re.findall(r"[^\s\"'`,;!?]+", message)
            candidates = (*words, *(word.rstrip(".") for word in words), *_SAMPLES)
            text = next((candidate for candidate in candidates if search(candidate)), text)
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    if isinstance(longest, int):
        text = text[:longest].rstrip() or text[:longest]
    if isinstance(shortest, int) and len(text) < shortest:
        text += "x" * (min(shortest, _MAX_TEXT_CHARS) - len(text))
    return text


def tool_vocabulary(tool: Tool) -> tuple[list[str], set[str], set[str]]:
    """Return the stems in a tool's name, in its description, and in its parameters' names and enum values."""
    name_text = " ".join(split_name(tool.name, tool.description))
    described = set(content_words(tool.description))
    parameters: set[str] = set()
    properties = tool.parameters.get("properties")
    for name, schema in (properties if isinstance(properties, Mapping) else {}).items():
        parameters.update(content_words(" ".join(split_name(name))))
        for value in resolve(schema, tool.parameters).get("enum") or ():
            parameters.update(content_words(str(value)))
    return content_words(name_text), described, parameters
