"""JSON Schemas in the form that OpenAI and Gemini both accept. No I/O.

Each server accepts a subset of JSON Schema and refuses the whole request when one schema leaves it. The form made
here is in all of these:

- OpenAI, functions and structured outputs: an object at the root without a union, arrays with ``items``, no
  ``allOf``, ``oneOf`` or ``not`` (https://platform.openai.com/docs/guides/structured-outputs#supported-schemas).
- Gemini's ``Schema``: a fixed set of fields, one ``type`` for a node, enums of non-empty strings,
  ``date-time`` as the only format of strings (https://ai.google.dev/api/caching#Schema). Its OpenAI-compatible
  address drops ``additionalProperties: false``, which OpenAI's own client always sends.
- Vertex AI: nothing beside ``anyOf``
  (https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/Schema).

What they have no field for is told to the model in the description. Arguments are validated against the tool's
schema, not against this form of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeGuard
from urllib.parse import unquote

import msgspec

__all__ = ["portable_schema"]

_MAX_NODES = 1_000
"""Limit for the subschemas of one schema; deeper levels are left out until it is met."""

_MAX_DEPTH = 16
"""Limit for nested subschemas, unions counted; OpenAI publishes 10 levels of objects for strict schemas."""

_MAX_ENUM = 500
"""Limit for the values of an enum; OpenAI takes 1,000 in a whole schema."""

_MAX_VALUE_CHARS = 300
"""Limit for the JSON of a value in a description."""

_SCALARS: tuple[dict[str, Any], ...] = ({"type": "string"}, {"type": "number"}, {"type": "boolean"})

_ANY_ITEM: dict[str, Any] = {"anyOf": [*_SCALARS, {"type": "object"}]}

_ANY: dict[str, Any] = {
    "anyOf": [*_SCALARS, {"type": "object"}, {"type": "array", "items": _ANY_ITEM}, {"type": "null"}]
}
"""Any value: both servers want a type."""

_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")

_KEYS_OF_TYPES: Mapping[str, tuple[str, ...]] = {
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
    "string": ("pattern", "minLength", "maxLength", "format", "contentEncoding", "contentMediaType"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""Keywords that name a type where ``type`` is missing; the first that applies."""

_LOWER_BOUNDS = frozenset({"exclusiveMinimum", "minimum", "minItems", "minLength", "minProperties"})
_UPPER_BOUNDS = frozenset({"exclusiveMaximum", "maximum", "maxItems", "maxLength", "maxProperties"})

_TOLD_AS_JSON = (
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "patternProperties",
    "propertyNames",
    "then",
)
"""Constraints without a field, which are told as they are written."""


_TOLD_ONCE = frozenset({"default", "description", "title", "examples", "example", "deprecated", *_TOLD_AS_JSON})


def portable_schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """Return a schema in the form that OpenAI and Gemini both accept; a schema in that form is returned equal.

    References are inlined, a recursive one up to where it repeats. Tuples become arrays of a common type,
    ``oneOf`` becomes ``anyOf``, ``allOf`` is merged. An untyped root becomes an object; a root of another type
    keeps it. The result is shared between calls and must not be changed.

    Args:
        schema: JSON Schema, draft 7 or 2020-12; it is not changed.

    Example:
        >>> pair = {"type": "array", "prefixItems": [{"type": "integer"}] * 2, "minItems": 2, "maxItems": 2}
        >>> portable_schema({"type": "object", "properties": {"pair": pair}})["properties"]["pair"]
        {'type': 'array', 'items': {'type': 'integer'}, 'minItems': 2, 'maxItems': 2}
    """
    try:
        try:  # by content: a schema that its owner changes is converted again
            return _converted(msgspec.json.encode(schema, enc_hook=_as_json))
        except (OverflowError, UnicodeEncodeError):  # an integer of more than 64 bits, half a surrogate pair
            return _convert(json.loads(json.dumps(schema, default=_as_json), parse_int=_bounded_integer))
    except (RecursionError, TypeError, ValueError):  # nested in itself or too deeply, or not JSON
        return _convert(schema)


def _as_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _bounded_integer(digits: str) -> float:
    number = float(digits)
    return int(digits) if abs(number) < 2**63 else max(-1e308, min(1e308, number))


@lru_cache(256)
def _converted(encoded: bytes) -> dict[str, Any]:
    return _convert(msgspec.json.decode(encoded))


def _convert(schema: Any) -> dict[str, Any]:
    limits = [*((max_depth, _MAX_NODES) for max_depth in (_MAX_DEPTH, 8, 6, 4, 3, 2)), (1, 20 * _MAX_NODES)]
    for max_depth, max_nodes in limits:
        try:
            return _Converter(schema, max_depth, max_nodes).root()
        except (_TooLargeError, RecursionError):  # the latter where values are nested too deeply to compare
            continue
    return {"type": "object", "properties": {}}


class _TooLargeError(Exception):
    pass


class _Converter:
    """Converts one schema.

    Args:
        schema: the schema.
        max_depth: limit for nested subschemas.
        max_nodes: limit for subschemas.

    Raises:
        _TooLargeError: there are more than ``max_nodes``.
    """

    def __init__(self, schema: Any, max_depth: int, max_nodes: int) -> None:
        self._schema = schema
        self._max_depth = max_depth
        self._nodes_left = max_nodes
        self._repeated: set[str] = set()

    def root(self) -> dict[str, Any]:
        node, path = self._flatten(self._schema, ("#",), 0)
        node = self._without_root_union(node, path, 0)
        if _types(node) in ((), ("object",)):
            node = {**node, "type": "object"}
            node = {key: value for key, value in node.items() if key not in ("const", "enum", "nullable")}
        result = self._node(node, path, 0)
        if result.get("type") == "object":
            result.setdefault("properties", {})
        return result

    def _without_root_union(self, node: dict[str, Any], path: tuple[str, ...], depth: int) -> dict[str, Any]:
        """Return the root with the properties of all options of its union, and told which belong together."""
        options = [option for key in ("anyOf", "oneOf") for option in _as_list(node.get(key))]
        base = {key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}
        if not options or _types(base) not in ((), ("object",)):
            return base if _types(base) == ("object",) else node
        found = []
        for option in options if depth < self._max_depth else ():
            flat, flat_path = self._flatten(option, path, depth + 1)
            flat = self._without_root_union(flat, flat_path, depth + 1)
            if _types(flat) in ((), ("object",)):
                found.append(flat)
        if not found:
            return base if _types(base) else node
        properties = {name: [part] for name, part in _as_dict(base.get("properties")).items()}
        for option in found:
            for name, part in _as_dict(option.get("properties")).items():
                if _json(part) not in map(_json, properties.setdefault(name, [])):
                    properties[name].append(part)
        shared = [name for name in _names(found[0]) if all(name in _names(option) for option in found)]
        result = {
            **base,
            "type": "object",
            "properties": {
                name: parts[0] if len(parts) == 1 else {"anyOf": parts} for name, parts in properties.items()
            },
            "required": [*_names(base), *shared],
        }
        if all(option.get("additionalProperties") is False for option in found):
            result.setdefault("additionalProperties", False)
        groups = [_names(option) or list(_as_dict(option.get("properties"))) for option in found]
        told = " or ".join(", ".join(group) for group in groups if group)
        if len(groups) > 1 and told:
            return _told(result, f"Give the properties of one group: {_excerpt(told)}.")
        return result

    def _node(self, node: Any, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        self._count()
        flat, inner_path = self._flatten(node, path, depth)
        result = self._plain(flat) if depth >= self._max_depth else self._typed(flat, inner_path, depth)
        for reference in inner_path[len(path) :]:
            if reference in self._repeated and "type" in result:
                result.setdefault("title", _name_of(reference))
        return result

    def _count(self) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise _TooLargeError

    def _flatten(self, node: Any, path: tuple[str, ...], depth: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return a node without ``$ref`` and ``allOf``, and the references on the way to it."""
        flat = dict(node) if isinstance(node, Mapping) else {"not": {}} if node is False else {}
        while "$ref" in flat or "$dynamicRef" in flat or "allOf" in flat:
            self._count()
            parts = _as_list(flat.pop("allOf", None))
            for key in ("$dynamicRef", "$ref"):
                reference = flat.pop(key, None)
                if not isinstance(reference, str):
                    continue
                target = self._target(reference)
                if reference in path:
                    self._repeated.add(reference)
                    parts.insert(0, _repetition(target, reference))
                else:
                    path = (*path, reference)
                    parts.insert(0, target)
            for part in parts:
                if depth > 2 * _MAX_DEPTH:
                    break
                inner, path = self._flatten(part, path, depth + 1)
                flat = _merge(flat, inner)
        return flat, path

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        found: Any = self._schema
        for step in reference[1:].split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, Sequence) and not isinstance(found, str) and name.isdecimal():
                found = found[int(name)] if int(name) < len(found) else {}
            else:
                return {}
        return found if isinstance(found, (Mapping, bool)) else {}

    def _plain(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a node without anything inside it."""
        types = _types(node)
        if len(types) != 1 or types[0] == "array":
            return _with_text(
                {"type": "array", "items": dict(_ANY_ITEM)} if types == ("array",) else dict(_ANY), node
            )
        return _with_text({"type": types[0]}, node)

    def _typed(self, node: dict[str, Any], path: tuple[str, ...], depth: int) -> dict[str, Any]:
        for key in ("anyOf", "oneOf"):
            options = [option for option in _as_list(node.get(key)) if option is not False]
            base = {name: value for name, value in node.items() if name != key}
            if options:
                return self._union([{"allOf": [option, _inside(base)]} for option in options], base, path, depth)
            node = base
        types, values = _types(node), _enum_values(node)
        if values is not None:
            values = [value for value in values if _has_type(value, types)] or values
            found = tuple(dict.fromkeys(map(_type_of, values)))
            types = tuple(kind for kind in types if any(_has_type(value, (kind,)) for value in values)) or found
        if node.get("nullable") is True and types and "null" not in types:
            types = (*types, "null")
        if not types:
            return _with_text(dict(_ANY), _told(node, *_notes(node)))
        if len(types) > 1:
            options = [{**_inside(node), "type": kind, "nullable": False} for kind in types]
            return self._union(options, node, path, depth)
        return self._of_type(types[0], node, values, path, depth)

    def _union(
        self, options: list[dict[str, Any]], base: dict[str, Any], path: tuple[str, ...], depth: int
    ) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        for option in options:
            part = self._node(option, path, depth + 1)
            found += [inner for inner in part.get("anyOf", (part,)) if inner not in found]
        return _with_text(found[0] if len(found) == 1 else {"anyOf": found}, _told(base, *_notes(base)))

    def _of_type(
        self, kind: str, node: dict[str, Any], values: list[Any] | None, path: tuple[str, ...], depth: int
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"type": kind}
        notes = _notes(node)
        if kind == "string" and values and "" not in values and len(values) <= _MAX_ENUM:
            result["enum"] = values
        elif values and kind != "null" and not (kind == "boolean" and len(values) > 1):
            notes.append(_told_values("One of" if len(values) > 1 else "Always", values, _MAX_ENUM))
            if kind in ("integer", "number"):
                node = {**node, "minimum": min(values), "maximum": max(values)}
        if kind == "array":
            self._array(result, node, notes, path, depth)
        elif kind == "object":
            self._object(result, node, notes, path, depth)
        elif kind == "string":
            _copy(result, node, ("minLength", "maxLength"), int)
            pattern, form = node.get("pattern"), node.get("format")
            if isinstance(pattern, str) and "(?" not in pattern:
                result["pattern"] = pattern
            elif isinstance(pattern, str):  # look-around, which their engines do not know
                notes.append(f"Pattern: {_excerpt(pattern)}.")
            if form == "date-time":
                result["format"] = form
            elif isinstance(form, str) and form and form != "enum":
                notes.append(f"Format: {_excerpt(form)}.")
            for key, word in (("contentEncoding", "Encoding"), ("contentMediaType", "Media type")):
                if isinstance(node.get(key), str):
                    notes.append(f"{word}: {_excerpt(node[key])}.")
        elif kind in ("integer", "number"):
            _bounds(result, node, notes)
        if "default" in node and len(_json(node["default"])) <= _MAX_VALUE_CHARS:
            result["default"] = node["default"]
        if isinstance(node.get("title"), str):
            result["title"] = node["title"]
        return _with_text(result, _told({"description": node.get("description")}, *notes))

    def _array(
        self, result: dict[str, Any], node: dict[str, Any], notes: list[str], path: tuple[str, ...], depth: int
    ) -> None:
        items, rest = node.get("items"), None
        prefix = _as_list(node.get("prefixItems"))
        if isinstance(items, Sequence) and not isinstance(items, str):  # before 2020-12
            prefix, rest = prefix or list(items), node.get("additionalItems")
        else:
            rest = items
        parts = [self._node(part, path, depth + 1) for part in prefix]
        if rest is not None and rest is not False and not (prefix and rest is True):
            parts.append(self._node(rest, path, depth + 1))
        found: list[dict[str, Any]] = []
        for part in parts:
            if prefix:
                part = {key: value for key, value in part.items() if key not in ("default", "title")}
            found += [inner for inner in part.get("anyOf", (part,)) if inner not in found]
        result["items"] = dict(_ANY_ITEM) if not found else found[0] if len(found) == 1 else {"anyOf": found}
        names = [part.get("title") for part in parts[: len(prefix)]]
        if prefix and (len(found) > 1 or any(names)):
            told = [_word_for(part) for part in parts[: len(prefix)]]
            notes.append(f"In this order: {_excerpt(', '.join(told))}.")
        _copy(result, node, ("minItems", "maxItems"), int)
        if prefix and rest is False:
            result.setdefault("maxItems", len(prefix))
        if node.get("uniqueItems") is True:
            notes.append("No duplicates.")

    def _object(
        self, result: dict[str, Any], node: dict[str, Any], notes: list[str], path: tuple[str, ...], depth: int
    ) -> None:
        properties = {
            str(name): self._node(part, path, depth + 1)
            for name, part in _as_dict(node.get("properties")).items()
            if part is not False
        }
        if properties:
            result["properties"] = properties
        required = list(dict.fromkeys(name for name in _names(node) if name in properties))
        if required or node.get("required") == []:
            result["required"] = required
        others = node.get("additionalProperties")
        if others is False:
            result["additionalProperties"] = False
        elif others is True and depth == 0:
            notes.append("Other properties are allowed.")
        elif isinstance(others, Mapping) and others:
            told = self._node(others, path, depth + 1)
            form = _word_for(told) if _is_simple(told) else _json(told)
            which = "Each other property" if properties else "Any property names; each value"
            notes.append(f"{which}: {_excerpt(form)}.")
        for key, word in (("minProperties", "at least"), ("maxProperties", "at most")):
            if _is_number(node.get(key)):
                notes.append(f"Number of properties: {word} {node[key]}.")


def _merge(outer: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    """Return what both schemas allow, with the texts of the outer one."""
    merged = dict(outer)
    for key, theirs in inner.items():
        ours = merged.get(key)
        if key not in merged or ours is None:
            merged[key] = theirs
        elif ours is theirs or key in ("$defs", "definitions"):
            continue
        elif key == "properties":
            names = {**_as_dict(ours), **_as_dict(theirs)}
            both = _as_dict(ours).keys() & _as_dict(theirs).keys()
            merged[key] = names | {name: {"allOf": [ours[name], theirs[name]]} for name in names if name in both}
        elif key == "required":
            merged[key] = [*_as_list(ours), *_as_list(theirs)]
        elif key == "type":
            merged[key] = _common_types(outer, inner)
        elif key == "enum":
            merged[key] = [value for value in _as_list(ours) if value in _as_list(theirs)] or ours
        elif key == "items" and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            merged[key] = {"allOf": [ours, theirs]}
        elif key in ("anyOf", "oneOf"):
            merged[key] = [{"allOf": [option, {key: theirs}]} for option in _as_list(ours)]
        elif key == "additionalProperties":
            merged[key] = False if theirs is False else ours
        elif _is_number(ours) and _is_number(theirs) and key in _LOWER_BOUNDS | _UPPER_BOUNDS:
            merged[key] = max(ours, theirs) if key in _LOWER_BOUNDS else min(ours, theirs)
    return merged


def _common_types(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    ours, theirs = _types(one), _types(other)
    common = [kind for kind in ours if kind in theirs]
    if "integer" in (*ours, *theirs) and "integer" not in common and "number" in (*ours, *theirs):
        common.append("integer")
    return common or list(ours)


def _repetition(target: Any, reference: str) -> dict[str, Any]:
    """Return a node in place of a reference to something that it is inside of."""
    node = target if isinstance(target, Mapping) else {}
    types = _types(node)
    if len(types) != 1 or "anyOf" in node or "oneOf" in node:
        return {}
    return _told(
        {"type": types[0], "description": node.get("description")}, f"Another {_name_of(reference)}, nested."
    )


def _name_of(reference: str) -> str:
    return unquote(reference.rsplit("/", 1)[-1]).strip("#") or "object of this form"


def _types(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types of a node: those it says, or that its keywords name; none for any type."""
    said = node.get("type")
    listed = said if isinstance(said, list) else [said]
    found = [kind.lower() for kind in listed if isinstance(kind, str) and kind.lower() in _TYPES]
    if found:
        return tuple(dict.fromkeys(found))
    if said is None and not any(key in node for key in ("anyOf", "oneOf", "enum", "const")):
        for kind, keys in _KEYS_OF_TYPES.items():
            if any(key in node for key in keys):
                return (kind,)
    return ()


def _enum_values(node: Mapping[str, Any]) -> list[Any] | None:
    """Return the distinct values of ``enum`` or ``const``, None where neither is."""
    values = [node["const"]] if "const" in node else node.get("enum")
    if not isinstance(values, list) or not values:
        return None
    found: list[Any] = []
    seen: set[str] = set()
    for value in values:
        written = _json(value)
        if written not in seen:
            seen.add(written)
            found.append(value)
    return found


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def _has_type(value: Any, types: Sequence[str]) -> bool:
    kind = _type_of(value)
    return kind in types or (kind == "integer" and "number" in types)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _names(node: Mapping[str, Any]) -> list[str]:
    return [name for name in _as_list(node.get("required")) if isinstance(name, str)]


def _inside(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each option of a union has in common, without what is said about the whole."""
    return {key: value for key, value in node.items() if key not in _TOLD_ONCE}


def _copy(result: dict[str, Any], node: Mapping[str, Any], keys: Sequence[str], kind: type) -> None:
    for key in keys:
        if isinstance(node.get(key), kind) and not isinstance(node[key], bool) and node[key] >= 0:
            result[key] = node[key]


def _bounds(result: dict[str, Any], node: Mapping[str, Any], notes: list[str]) -> None:
    for key, exclusive, step, word, tighter in (
        ("minimum", "exclusiveMinimum", 1, "Greater", max),
        ("maximum", "exclusiveMaximum", -1, "Less", min),
    ):
        bounds = [node[key]] if _is_number(node.get(key)) else []
        limit = node.get(exclusive)
        if limit is True and bounds:  # draft 4
            limit = bounds.pop()
        if _is_number(limit):
            if result["type"] == "integer" and isinstance(limit, int):
                bounds.append(limit + step)
            else:
                bounds.append(limit)
                notes.append(f"{word} than {limit}.")
        if bounds:
            result[key] = tighter(bounds)
    if _is_number(node.get("multipleOf")):
        notes.append(f"A multiple of {node['multipleOf']}.")


def _notes(node: Mapping[str, Any]) -> list[str]:
    """Return sentences for what neither server has a field for, whatever the type."""
    notes = [
        f"{key}: {_excerpt(_json(node[key]))}."
        for key in _TOLD_AS_JSON
        if key in node and node[key] not in ({}, [], True)
    ]
    examples = _as_list(node.get("examples")) or ([node["example"]] if "example" in node else [])
    if examples:
        notes.append(_told_values("Examples" if len(examples) > 1 else "Example", examples, 3))
    if node.get("deprecated") is True:
        notes.append("Deprecated.")
    return notes


def _told_values(word: str, values: list[Any], limit: int) -> str:
    told = ", ".join(_json(value) for value in values[:limit])
    return f"{word}: {_excerpt(told, 10 * _MAX_VALUE_CHARS)}{', …' if len(values) > limit else ''}."


def _told(node: dict[str, Any], *notes: str) -> dict[str, Any]:
    """Return a node with sentences added to its description."""
    said = node.get("description")
    text = said if isinstance(said, str) else ""
    for note in notes:
        if note not in text:
            text = f"{_as_sentence(text)}{note}"
    return (
        {**node, "description": text}
        if text
        else {key: part for key, part in node.items() if key != "description"}
    )


def _as_sentence(text: str) -> str:
    text = text.rstrip()
    return "" if not text else f"{text} " if text[-1] in ".!?:;…" else f"{text}. "


def _with_text(result: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node with the description of another one, in its first option if it is a union."""
    text = node.get("description")
    notes = []
    if "anyOf" in result:
        if "default" in node and node["default"] is not None:
            notes.append(f"Default: {_excerpt(_json(node['default']))}.")
    elif "default" in node and len(_json(node["default"])) <= _MAX_VALUE_CHARS:
        result = {**result, "default": node["default"]}
    text = _told({"description": text}, *notes).get("description")
    if not text:
        return result
    if "anyOf" not in result:
        own = result.get("description")
        return {**result, "description": text if own in (None, text) or own in text else _as_sentence(text) + own}
    first, *others = result["anyOf"]
    return {"anyOf": [_with_text(first, {"description": text}), *others]}


def _word_for(part: Mapping[str, Any]) -> str:
    """Return a few words for a converted node."""
    kinds = " or ".join(dict.fromkeys(str(option["type"]) for option in part.get("anyOf", (part,))))
    details = [part.get("title"), part.get("description")]
    text = ", ".join(str(detail).rstrip(".") for detail in details if detail)
    return f"{kinds} ({_excerpt(text, 80)})" if text else kinds


def _is_simple(part: Mapping[str, Any]) -> bool:
    return all(option.keys() == {"type"} for option in part.get("anyOf", (part,)))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "…" * (_MAX_VALUE_CHARS + 1)


def _excerpt(text: str, limit: int = _MAX_VALUE_CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
