"""JSON Schema: validating arguments, and simplifying generated schemas for models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["compile_schema", "describe_parameters", "simplify_schema"]

# In the values of these keys, "title" is data or a property name, not an annotation.
_DATA_KEYS = frozenset({"const", "default", "enum", "examples", "required"})
_DROPPED_KEYS = frozenset({"$defs", "discriminator", "title"})
_NAME_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})


def compile_schema(schema: Mapping[str, Any]) -> Callable[[Any], list[str]]:
    """Compile a schema to a function that returns the problems of a value, such as ``"url: must be string"``.

    Draft 7, which agrees with 2020-12 in what tools use. ``format`` is not checked, remote references are
    rejected.

    Raises:
        ValueError: invalid schema.

    Example:
        >>> compile_schema({"type": "object", "properties": {"n": {"type": "integer"}}})({"n": "x"})
        ['n: must be integer']
    """
    try:
        return _compile(json.dumps(schema))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON Schema: {error}") from error


@lru_cache(256)
def _compile(schema: str) -> Callable[[Any], list[str]]:
    import fastjsonschema  # not jsonschema: with Jupyter's format checkers installed, that takes 1.8 s to import

    try:
        check = fastjsonschema.compile(
            _as_draft_7(json.loads(schema)) if "prefixItems" in schema else json.loads(schema),
            handlers=dict.fromkeys(("file", "ftp", "http", "https"), _refuse_to_fetch),
            use_default=False,
            use_formats=False,
        )
    except Exception as error:  # besides its own errors, KeyError, TypeError, re.error… on invalid schemas
        raise ValueError(f"not a JSON Schema: {error}") from error

    def problems(value: Any) -> list[str]:
        try:
            check(value)
        except fastjsonschema.JsonSchemaValueException as error:
            where = ".".join(str(step) for step in error.path[1:])
            what = error.message.removeprefix(error.name or "").strip()
            return [f"{where}: {what}" if where else f"arguments {what}"]
        return []

    return problems


def _as_draft_7(node: Any) -> Any:
    """Return a schema with the tuples of 2020-12, ``prefixItems`` and ``items``, as draft 7 writes them."""
    if isinstance(node, list):
        return [_as_draft_7(item) for item in node]
    if not isinstance(node, dict):
        return node
    draft = {
        key: {name: _as_draft_7(part) for name, part in value.items()}
        if key in _NAME_MAPS and isinstance(value, dict)
        else value
        if key in _DATA_KEYS
        else _as_draft_7(value)
        for key, value in node.items()
    }
    if isinstance(draft.get("prefixItems"), list):
        rest = draft.pop("items", True)
        draft |= {"items": draft.pop("prefixItems"), "additionalItems": rest}
    return draft


def _refuse_to_fetch(uri: str) -> Any:
    raise ValueError(f"it refers to {uri}; copy that part below $defs")


def describe_parameters(schema: Mapping[str, Any]) -> str:
    """Describe the parameters in one line: ``url (string, required), limit (integer)``."""
    required = schema.get("required", ())
    parts = []
    for name, part in schema.get("properties", {}).items():
        kind = part.get("type") if isinstance(part, Mapping) else None
        words = [" or ".join(kind) if isinstance(kind, list) else kind or "any", name in required and "required"]
        parts.append(f"{name} ({', '.join(word for word in words if word)})")
    return ", ".join(parts) or "none"


def simplify_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Copy a schema without ``title``, outside tuples, and with ``$defs`` inlined, except recursive ones."""
    definitions = schema.get("$defs", {})
    recursive: dict[str, Any] = {}

    def walk(node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            name = reference.removeprefix("#/$defs/")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            if not _is_recursive(name, definitions):
                return walk(definitions[name] | rest, inside)
            if name not in inside and name not in recursive:
                recursive[name] = None  # marks it as visited
                recursive[name] = walk(definitions[name], (*inside, name))
            return node
        clean: dict[str, Any] = {}
        for key, value in node.items():
            if key in _DROPPED_KEYS:
                continue
            if key == "prefixItems" and isinstance(value, list):
                clean[key] = [_with_title(walk(part, inside), part) for part in value]
                continue
            if key in _NAME_MAPS and isinstance(value, dict):
                clean[key] = {name: walk(part, inside) for name, part in value.items()}
            else:
                clean[key] = value if key in _DATA_KEYS else walk(value, inside)
        return clean

    clean: dict[str, Any] = walk(schema, ())
    if recursive:
        clean["$defs"] = recursive
    return clean


def _with_title(clean: Any, part: Any) -> Any:
    """Keep the title in a tuple: it is the only name of an item of a named tuple."""
    return {**clean, "title": part["title"]} if isinstance(part, dict) and "title" in part else clean


def _is_recursive(name: str, definitions: Mapping[str, Any]) -> bool:
    """Whether a definition refers to itself, directly or through others."""
    visited: set[str] = set()
    todo = [name]
    while todo:
        for target in _find_references(definitions.get(todo.pop())):
            if target == name:
                return True
            if target not in visited:
                visited.add(target)
                todo.append(target)
    return False


def _find_references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _find_references(item)]
    if not isinstance(node, dict):
        return []
    names = [name for value in node.values() for name in _find_references(value)]
    reference = node.get("$ref")
    return [*names, reference.removeprefix("#/$defs/")] if isinstance(reference, str) else names
