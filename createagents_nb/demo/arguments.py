"""Filling in the arguments of a tool call from its JSON Schema and the entities in the message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .conversation import Tool
from .entities import Entities, extract_entities
from .schema import MAX_DEPTH, clamp, fit_text, resolve, schema_type, string_kind
from .stemming import content_words, fold, split_name, stem
from .string_arguments import StringSelector, default_text, find_stated_value

__all__ = ["fill_arguments", "fill_schema"]

_MISSING: Any = object()
_COUNT_NAMES = frozenset(
    {"limit", "n", "count", "k", "top", "size", "max", "rows", "num", "number", "head", "linhas", "length"}
)
_LIST_SEPARATOR = re.compile(r"\s*(?:,|;|&|\band\b|\be\b|\bor\b|\bou\b)\s*")
_NEGATED = r"(?:not|no|without|don't|dont|nao|sem|disable)\s+(?:\w+\s+)?"
MAX_FAN_OUT = 4
"""Limit for the calls of one tool that list names, such as "the weather in Paris, Oslo and Rome"."""

_MAX_ITEMS = 100
"""Limit for the items of an array: a schema may require a billion."""


def fill_arguments(
    tool: Tool, text: str, message: str | None = None, *, earlier: float | None = None
) -> list[dict[str, Any]]:
    """Return the arguments of the calls of ``tool`` that ``text`` asks for: one call, or one for each listed name.

    Args:
        tool: the tool.
        text: part of the message that asks for this tool.
        message: the whole message, for what is missing in ``text``.
        earlier: number that an earlier tool returned; "it" or "the result" in the text refers to it.

    >>> fill_arguments(Tool("rows", "", {"properties": {"limit": {"type": "integer"}}}), "the first 3 rows")
    [{'limit': 3}]
    """
    name = _fan_out_parameter(tool)
    filler = _Filler(tool, text, message, earlier)
    first = filler.object(tool.parameters, 0)
    if name is None or name not in first:
        return [first]
    schema = resolve(tool.parameters["properties"][name], tool.parameters)
    is_zone = string_kind(name, schema) == "zone"
    values = filler.entities.zones if is_zone else _list_with(first[name], filler.entities)
    if first[name] not in values:
        return [first]
    return [{**first, name: fit_text(value, schema, text)} for value in values[:MAX_FAN_OUT]]


def _list_with(value: str, entities: Entities) -> list[str]:
    """Return ``value`` and what follows it in a list such as "Paris, Oslo and Rome"."""
    values, end = [value], entities.text.find(value) + len(value)
    for kind in (entities.quoted, entities.urls, entities.files, entities.names):
        for other in kind if value in kind else ():
            start = entities.text.find(other, end)
            if start >= 0 and _LIST_SEPARATOR.fullmatch(entities.text[end:start].strip("\"'`“”")):
                values.append(other)
                end = start + len(other)
    return values


def fill_schema(schema: Mapping[str, Any], text: str) -> Any:
    """Make a value that is valid against ``schema``, using the entities in ``text``."""
    filler = _Filler(Tool("", "", schema), text, None, None)
    return filler.value("", schema, required=True, depth=0)


def _fan_out_parameter(tool: Tool) -> str | None:
    """Return the only required string of a tool, unless a parameter takes several values."""
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return None
    schemas = {name: resolve(schema, tool.parameters) for name, schema in properties.items()}
    if any(schema_type(schema) in ("array", "object") for schema in schemas.values()):
        return None
    required = tool.parameters.get("required") or ()
    strings = [n for n, s in schemas.items() if schema_type(s) == "string" and n in required and not s.get("enum")]
    zones = [n for n, s in schemas.items() if schema_type(s) == "string" and string_kind(n, s) == "zone"]
    if len(strings or zones) != 1:
        return None
    name = (strings or zones)[0]
    return None if string_kind(name, schemas[name]) in ("text", "code", "expression", "date") else name


class _Filler:
    """Fills in the arguments of one call; each number and string is used once."""

    def __init__(self, tool: Tool, text: str, message: str | None, earlier: float | None) -> None:
        self.tool = tool
        self.root = tool.parameters
        self.entities: Entities = extract_entities(text)
        has_more = message is not None and message not in ("", text)
        self.message_entities: Entities = extract_entities(message or "") if has_more else self.entities
        self.earlier = earlier if self._refers_to_earlier_result(text) else None
        self.folded = fold(text)
        self.strings = StringSelector(tool)
        self.numeric_parameters = 0

    def _refers_to_earlier_result(self, text: str) -> bool:
        """Whether the text contains "it" or "the result", or fewer numbers than the tool requires."""
        if re.search(r"(?i)\b(?:it|that|this|result|isso|resultado)\b", text):
            return True
        properties = self.root.get("properties")
        schemas = properties if isinstance(properties, Mapping) else {}
        kinds = [schema_type(resolve(schemas.get(name), self.root)) for name in self.root.get("required") or ()]
        return sum(kind in ("integer", "number") for kind in kinds) > len(self.entities.numbers)

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        required = [name for name in schema.get("required") or () if isinstance(name, str)]
        if not isinstance(properties, Mapping):
            properties = {}
        resolved = {
            name: resolve(properties.get(name), self.root) for name in {**properties, **dict.fromkeys(required)}
        }
        self.numeric_parameters = sum(schema_type(part) in ("integer", "number") for part in resolved.values())
        filled: dict[str, Any] = {}
        # First required parameters with a number next to their name, then required ones, then the others.
        named = [name for name in resolved if name in required and self._has_named_number(name)]
        for name in dict.fromkeys([*named, *(n for n in resolved if n in required), *resolved]):
            value = self.value(name, resolved[name], required=name in required, depth=depth + 1)
            if value is not _MISSING:
                filled[name] = value
        if not properties and isinstance(schema.get("additionalProperties"), Mapping) and depth:
            for key, text in re.findall(r"(\w+)\s*=\s*([\w.-]+)", self.entities.text):
                value = _Filler(self.tool, text, None, None).value(
                    key, resolve(schema["additionalProperties"], self.root), required=True, depth=depth + 1
                )
                filled[key] = value
        return {name: filled[name] for name in resolved if name in filled} | filled

    def value(self, name: str, schema: Any, *, required: bool, depth: int) -> Any:
        schema = resolve(schema, self.root)
        kind = schema_type(schema)
        if "const" in schema:
            return schema["const"] if required else _MISSING
        if schema.get("enum"):
            return self._fill_enum(schema, required)
        if depth > MAX_DEPTH:
            return self._default_value(schema, "demo") if required else _MISSING
        if kind in ("integer", "number"):
            return self._fill_number(name, schema, required)
        if kind == "boolean":
            return self._fill_boolean(name, schema, required)
        if kind == "array":
            return self._fill_array(name, schema, required, depth)
        if kind == "object":
            return self.object(schema, depth) if required else self._fill_optional_object(schema, depth)
        if kind == "null":
            return None if required else _MISSING
        return self._fill_string(name, schema, required)

    def _default_value(self, schema: Mapping[str, Any], value: Any) -> Any:
        if schema.get("default") is not None:
            return schema["default"]
        examples = schema.get("examples")
        return examples[0] if isinstance(examples, list) and examples else value

    def _fill_enum(self, schema: Mapping[str, Any], required: bool) -> Any:
        options = list(schema["enum"])
        for option in sorted(options, key=lambda option: -len(str(option))):
            pattern = rf"(?<!\w){re.escape(fold(str(option)).replace('_', ' '))}(?!\w)"
            if option is not None and re.search(pattern, self.folded.replace("_", " ")):
                return option
        stems = set(content_words(self.entities.text))
        for option in options:
            words = content_words(str(option).replace("_", " "))
            if words and stems.issuperset(words):
                return option
        if not required:
            return _MISSING
        default = schema.get("default")
        return default if default in options else next((option for option in options if option is not None), None)

    def _has_named_number(self, name: str) -> bool:
        words = {stem(word) for word in split_name(name)}
        return any(words & {number.before, number.after} for number in self.entities.numbers)

    def _fill_number(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        words = {stem(word) for word in split_name(name)} - {""}
        unused = [number for number in self.entities.numbers if not number.used]
        chosen = next((number for number in unused if words & {number.before, number.after}), None)
        if chosen is None and required and self.earlier is not None:
            value, self.earlier = self.earlier, None
            return clamp(value, schema)
        if chosen is None and (
            required or self.numeric_parameters == 1 or _COUNT_NAMES.intersection(split_name(name))
        ):
            chosen = next(iter(unused), None)
        if chosen is None and required:
            chosen = next((number for number in self.message_entities.numbers if not number.used), None)
        if chosen is not None:
            chosen.used = True
            return clamp(chosen.value, schema)
        if not required:
            return _MISSING
        default = self._default_value(schema, 1)
        is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
        return clamp(default if is_number else 1, schema)

    def _fill_boolean(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        words = r"[\s_-]*".join(map(re.escape, split_name(name))) or re.escape(name)
        stated = re.search(rf"\b{words}\s*(?:=|:|is)?\s*(true|false|yes|no|on|off|sim|nao)\b", self.folded)
        if stated is not None:
            return stated[1] in ("true", "yes", "on", "sim")
        if re.search(rf"\b{_NEGATED}{words}\b", self.folded):
            return False
        if re.search(rf"\b{words}", self.folded):
            return True
        default = schema.get("default")
        return (default if isinstance(default, bool) else True) if required else _MISSING

    def _fill_array(self, name: str, schema: Mapping[str, Any], required: bool, depth: int) -> Any:
        if isinstance(parts := schema.get("prefixItems"), list) and parts:
            if not required:
                return _MISSING
            return [self.value(name, part, required=True, depth=depth + 1) for part in parts[:_MAX_ITEMS]]
        item = resolve(schema.get("items"), self.root)
        kind = schema_type(item)
        min_items = schema.get("minItems")
        min_items = min(min_items, _MAX_ITEMS) if isinstance(min_items, int) else 0
        values: list[Any] = []
        if item.get("enum"):
            values = [
                option
                for option in item["enum"]
                if re.search(rf"(?<!\w){re.escape(fold(str(option)))}(?!\w)", self.folded)
            ]
        elif kind in ("integer", "number"):
            numbers = [number for number in self.entities.numbers if not number.used]
            values = [clamp(number.value, item) for number in numbers]
            for number in numbers:
                number.used = True
        elif kind in ("string", "any"):
            values = [fit_text(value, item, self.entities.text) for value in self._list_values(name, item)]
        if not values and not required:
            return _MISSING
        while len(values) < max(min_items or 0, 1 if required and kind != "any" and not values else 0):
            values.append(self.value(name, item, required=True, depth=depth + 1))
        if schema.get("uniqueItems"):
            values = [value for index, value in enumerate(values) if value not in values[:index]]
        return values[: schema.get("maxItems")]

    def _list_values(self, name: str, item: Mapping[str, Any]) -> list[str]:
        entities = self.entities
        kinds = {
            "zone": entities.zones,
            "url": entities.urls,
            "file": entities.files,
            "email": entities.emails,
            "date": entities.dates,
        }
        kind = string_kind(name, item)
        if kind in kinds:
            return list(kinds[kind])
        if entities.quoted or entities.names:
            return list(entities.quoted or entities.names)
        if (after := re.search(r":\s*(.+)$", entities.text, re.DOTALL)) is not None:
            return [part for part in _LIST_SEPARATOR.split(after[1].strip().rstrip(".?!")) if part]
        return []

    def _fill_optional_object(self, schema: Mapping[str, Any], depth: int) -> Any:
        given = self.object({**schema, "required": []}, depth)
        if not given:
            return _MISSING
        return {**self.object(schema, depth), **given}

    def _fill_string(self, name: str, schema: Mapping[str, Any], required: bool) -> Any:
        kind = string_kind(name, schema)
        value = find_stated_value(name, self.entities.text) or self.strings.find(
            kind, self.entities, required=required
        )
        if value is None and required and self.message_entities is not self.entities:
            value = self.strings.find(kind, self.message_entities, required=True)
        if value is None and not required:
            return _MISSING
        if value is None:
            value = str(self._default_value(schema, default_text(kind, self.entities)))
        self.strings.used.add(value)
        return fit_text(value, schema, self.entities.text)
