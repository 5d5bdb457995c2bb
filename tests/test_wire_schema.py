"""Every schema of a tool is sent in a form that OpenAI and Gemini accept; the tool gets its own types."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID

import jsonschema  # type: ignore[import-untyped]
import pytest
from family import Request, ScriptedServer, delta, json_reply, ndjson, sse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from createagents_nb import BaseTool, CreateAgent, tool
from createagents_nb.builtin_tools import BUILTIN_TOOLS
from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import ProviderError
from createagents_nb.providers import ollama_request, openai_request
from createagents_nb.providers.servers import OPENAI
from createagents_nb.providers.wire_schema import portable_schema
from createagents_nb.tools.executor import ToolExecutor
from createagents_nb.tools.tool import as_tool

Schema = dict[str, Any]


def nodes(schema: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every subschema with its place, as OpenAI writes it in ``In context=(…)``."""
    yield where, schema
    if not isinstance(schema, dict):
        return
    for key in ("properties", "$defs", "patternProperties"):
        for name, part in schema.get(key, {}).items():
            yield from nodes(part, (*where, key, name))
    for key in ("items", "not", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], (*where, key))
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for number, part in enumerate(schema.get(key, ())):
            yield from nodes(part, (*where, key, str(number)))


# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
OPENAI_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
OPENAI_UNSUPPORTED = {"allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else"}


def openai_problems(schema: Schema) -> list[str]:
    """What OpenAI refuses in the parameters of a function, in its words where they are known."""
    found = []
    # langchainjs #9804, home-generative-agent #545
    at_the_top = {"oneOf", "anyOf", "allOf", "enum", "const", "not"} & schema.keys()
    if schema.get("type") != "object" or at_the_top:
        found.append(
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
        )
    if not isinstance(schema.get("properties"), dict):
        found.append("In context=(), object schema missing properties.")  # spring-ai #4776
    for where, node in nodes(schema):
        context = f"In context={where}, "
        if not isinstance(node, dict):
            found.append(f"{context}{node} is not of type 'object', 'boolean'.")
            continue
        if "type" not in node and "anyOf" not in node:
            found.append(f"{context}schema must have a 'type' key.")  # oh-my-pi #211
        types = node.get("type", ())
        if "array" in ([types] if isinstance(types, str) else types) and not isinstance(node.get("items"), dict):
            found.append(f"{context}array schema missing items.")  # aichat #1049, fastmcp #2464
        found += [f"{context}{key!r} is not permitted." for key in OPENAI_UNSUPPORTED & node.keys()]  # notion #102
        if "oneOf" in node:
            found.append(f"{context}'oneOf' is not permitted.")  # oh-my-pi #920: on Responses
        if "$ref" in node and len(node) > 1:
            found.append(f"{context}$ref cannot have keywords {node.keys()}.")  # docker-agent #4155
        if "format" in node and node["format"] not in OPENAI_FORMATS:
            found.append(f"{context}{node['format']!r} is not a valid format.")  # oh-my-pi #206
        if len(node.get("enum", [1])) not in range(1, 1001):
            found.append(f"{context}enum has {len(node['enum'])} values.")
    if sum(len(node.get("properties", ())) for _, node in nodes(schema) if isinstance(node, dict)) > 5000:
        found.append("more than 5000 properties.")
    return found


# https://ai.google.dev/api/caching#Schema
GEMINI_FIELDS = {
    *("type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties"),
    *("required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf"),
    *("propertyOrdering", "default", "items", "minimum", "maximum"),
}
GEMINI_TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
GEMINI_FORMATS = {"string": {"date-time", "enum"}, "number": {"float", "double"}, "integer": {"int32", "int64"}}
GEMINI_FIELDS_OF_TYPES = {
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "minProperties", "maxProperties", "additionalProperties"},
    "string": {"enum", "minLength", "maxLength", "pattern"},
    "number": {"minimum", "maximum"},
}


def gemini_problems(schema: Schema) -> list[str]:
    """What Gemini refuses in ``function_declarations``, in its words where they are known."""
    found = []
    if schema.get("type") != "object":
        found.append("parameters schema should be of type OBJECT")  # OmniRoute #3360
    for where, node in nodes(schema):
        place = "parameters" + "".join(f".{step}" for step in where)
        if not isinstance(node, dict):
            found.append(f"{place}: Proto field is not a message")
            continue
        unknown = node.keys() - GEMINI_FIELDS
        if node.get("additionalProperties") is False:  # the compatible address takes it: OpenAI's client sends it
            unknown -= {"additionalProperties"}
        found += [f'{place}: Unknown name "{key}": Cannot find field.' for key in unknown]  # pizza-bot #62
        kind = node.get("type")
        if "anyOf" in node:  # Vertex AI: python-genai #625
            if len(node) > 1:
                found.append(f"{place}: When using any_of, it must be the only field set.")
            continue
        if not isinstance(kind, str):
            found.append(f'{place}: Unknown name "type": Proto field is not repeating, cannot start list.')
            continue
        if kind not in GEMINI_TYPES:
            found.append(f"{place}.type: Invalid value {kind!r}")  # gitlab-mcp #166
        for owner, keys in GEMINI_FIELDS_OF_TYPES.items():
            if kind != owner and not (owner == "number" and kind == "integer"):
                # opencode #11889, llms #20
                found += [f"{place}.{key}: only allowed for {owner.upper()} type" for key in keys & node.keys()]
        if "format" in node and node["format"] not in GEMINI_FORMATS.get(kind, ()):
            found.append(f"{place}.format: only 'enum' and 'date-time' are supported for STRING type")
        for number, value in enumerate(node.get("enum", ())):  # azure-devops-mcp #145
            if not isinstance(value, str):
                found.append(f"{place}.enum[{number}]: Invalid value (TYPE_STRING), {value}")
            elif not value:
                found.append(f"{place}.enum[{number}]: cannot be empty")
        if kind == "array" and not isinstance(node.get("items"), dict):
            found.append(f"{place}.items: missing field.")  # gemini-desktop #7
        if where and node.get("properties") == {}:
            found.append(f"{place}.properties: should be non-empty for OBJECT type")  # browser-use #3786
        for number, name in enumerate(node.get("required", ())):  # probe #569
            if name not in node.get("properties", {}):
                found.append(f"{place}.required[{number}]: property is not defined")
        for key in ("minItems", "maxItems", "minLength", "maxLength"):
            if key in node and (not isinstance(node[key], int) or isinstance(node[key], bool) or node[key] < 0):
                found.append(f"{place}.{key}: Invalid value (TYPE_INT64), {node[key]!r}")
    return found


def problems(schema: Schema) -> list[str]:
    return openai_problems(schema) + gemini_problems(schema)


def of(part: Any, **root: Any) -> Schema:
    """An object with the one property ``a``."""
    return {"type": "object", "properties": {"a": part}, **root}


def sent(part: Any, **root: Any) -> Any:
    """How the property ``a`` is sent."""
    schema = portable_schema(of(part, **root))
    assert problems(schema) == []
    return schema["properties"]["a"]


TEXT, WHOLE, NUMBER, NULL = ({"type": kind} for kind in ("string", "integer", "number", "null"))


# The validators themselves


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            of({"type": "array", "prefixItems": [WHOLE, WHOLE]}),
            ["array schema missing items", "items: missing field"],
        ),
        (of({"oneOf": [TEXT, WHOLE]}), ["'oneOf' is not permitted", 'Unknown name "oneOf"']),
        (of({"type": ["string", "null"]}), ["cannot start list"]),
        (of({**TEXT, "format": "uri"}), ["not a valid format", "only 'enum' and 'date-time'"]),
        (of({**WHOLE, "exclusiveMinimum": 0}), ['Unknown name "exclusiveMinimum"']),
        (of({"const": "x"}), ['Unknown name "const"']),
        (of({**WHOLE, "enum": [1]}), ["TYPE_STRING"]),
        (of({"type": "object", "additionalProperties": TEXT}), ['Unknown name "additionalProperties"']),
        (of({"anyOf": [TEXT, NULL], "description": "x"}), ["must be the only field set"]),
        (of(TEXT, required=["b"]), ["property is not defined"]),
        ({"anyOf": [of(TEXT), of(WHOLE)]}, ["at the top level", "should be of type OBJECT"]),
        ({"type": "object"}, ["object schema missing properties"]),
        (of({"$ref": "#/$defs/A", "description": "x"}), ["$ref cannot have keywords", 'Unknown name "$ref"']),
    ],
)
def test_the_published_rules_refuse_what_the_servers_refuse(schema: Schema, words: list[str]) -> None:
    text = "\n".join(problems(schema))
    assert [word for word in words if word not in text] == []


# Tools of functions


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1
    HIGH = 5


class Point(NamedTuple):
    x: int
    label: str = ""


@dataclass
class Window:
    rows: tuple[int, int]
    columns: Optional[tuple[str, int]] = None  # noqa: UP045


class Options(TypedDict, total=False):
    limit: int
    tags: list  # type: ignore[type-arg]


class Tree(BaseModel):
    """A tree."""

    value: int
    children: list[Tree] = []
    parent: Tree | None = None


class Left(BaseModel):
    right: Right | None = None


class Right(BaseModel):
    left: Left | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, gt=0, le=9)


class Dog(BaseModel):
    model_config = {"extra": "forbid"}

    kind: Literal["dog"]
    owner: Annotated[str, Field(min_length=1, pattern="^[A-Z]")]


class Settings(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: dict[str, Cat] = {}
    window: Window | None = None


HINTS: list[tuple[Any, Any, Any]] = [
    (tuple[int, int], [1, 2], (1, 2)),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (tuple[int, str, date], [1, "x", "2026-01-02"], (1, "x", date(2026, 1, 2))),
    (tuple[tuple[int, int], tuple[float, float]], [[1, 2], [0.5, 1]], ((1, 2), (0.5, 1.0))),
    (tuple, [1, "x"], (1, "x")),
    (tuple[()], [], ()),
    (tuple[int, int] | None, [1, 2], (1, 2)),
    (tuple[int, int] | None, None, None),
    (list[tuple[int, str]], [[1, "a"], [2, "b"]], [(1, "a"), (2, "b")]),
    (dict[str, tuple[int, int]], {"k": [1, 2]}, {"k": (1, 2)}),
    (tuple[int, int] | str, [1, 2], (1, 2)),
    (Point, [3, "here"], Point(3, "here")),
    (list[Point], [[3, "here"]], [Point(3, "here")]),
    (Window, {"rows": [1, 2], "columns": ["a", 3]}, Window((1, 2), ("a", 3))),
    (Options, {"limit": 3, "tags": ["x", 1]}, {"limit": 3, "tags": ["x", 1]}),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(value=1, children=[Tree(value=2)])),
    (Left, {"right": {"left": None}}, Left(right=Right(left=None))),
    (Settings, {"pet": {"kind": "cat"}}, Settings(pet=Cat(kind="cat", lives=9))),
    (list[Settings], [{"pet": {"kind": "dog", "owner": "Al"}}], [Settings(pet=Dog(kind="dog", owner="Al"))]),
    (Colour, "red", Colour.RED),
    (Level, 5, Level.HIGH),
    (Literal["a", "b"], "b", "b"),
    (Literal["a", 1, True, None], 1, 1),
    (Literal[2, 4], 4, 4),
    (Literal["", "x"], "", ""),
    (int | str, "x", "x"),
    (int | None, None, None),
    (list[int] | dict[str, int] | None, {"a": 1}, {"a": 1}),
    (datetime, "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
    (date, "2026-01-02", date(2026, 1, 2)),
    (time, "03:04:05", time(3, 4, 5)),
    (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Decimal, "1.5", Decimal("1.5")),
    (bytes, "ab", b"ab"),
    (Path, "a/b", Path("a/b")),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[str, Any], {"a": [1]}, {"a": [1]}),
    (dict, {"a": 1}, {"a": 1}),
    (list, [1, "x"], [1, "x"]),
    (list[Any], [1, [2]], [1, [2]]),
    (set[int], [1, 2], {1, 2}),
    (frozenset[str], ["x"], frozenset({"x"})),
    (Any, [1, {"a": None}], [1, {"a": None}]),
    (object, "x", "x"),
    (bool, True, True),
    (Annotated[int, Field(gt=0, lt=10, multiple_of=3)], 9, 9),
    (Annotated[float, Field(gt=0, le=1)], 0.5, 0.5),
    (Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]+$")], "abc", "abc"),
    (Annotated[list[int], Field(min_length=1, max_length=3)], [1], [1]),
    (Annotated[tuple[int, int], "first and last row"], [1, 2], (1, 2)),
]


def tool_with(hint: Any, seen: list[Any]) -> Any:
    def f(a: Any) -> str:
        seen.append(a)
        return "done"

    f.__annotations__["a"] = hint
    return tool(description="Looks.")(f)


@pytest.mark.parametrize(("hint", "given_value", "received"), HINTS, ids=lambda value: str(value)[:40])
@pytest.mark.asyncio
async def test_a_tool_of_any_hint_is_accepted_and_receives_its_type(
    hint: Any, given_value: Any, received: Any
) -> None:
    seen: list[Any] = []
    made = tool_with(hint, seen)
    before = copy.deepcopy(made.parameters)
    schema = portable_schema(made.parameters)
    assert problems(schema) == []
    assert made.parameters == before
    assert portable_schema(schema) == schema
    jsonschema.validate({"a": given_value}, schema)
    outcome = await ToolExecutor().execute(made, json.dumps({"a": given_value}))
    assert outcome.success, outcome.error
    assert seen == [received]
    assert type(seen[0]) is type(received)


def test_every_builtin_tool_is_accepted() -> None:
    for make in BUILTIN_TOOLS.values():
        parameters = make().parameters
        assert problems(portable_schema(parameters)) == []
        assert portable_schema(parameters) == parameters


def test_open_arguments_and_no_arguments_are_accepted() -> None:
    @tool
    def open_ended(a: int, **rest: Any) -> None:
        """Open."""

    @tool
    def empty() -> None:
        """Empty."""

    assert problems(portable_schema(open_ended.parameters)) == []
    assert "Other properties" in portable_schema(open_ended.parameters)["description"]
    assert portable_schema(empty.parameters) == {"type": "object", "properties": {}, "additionalProperties": False}


# What becomes of each construct


FINE: list[Schema] = [
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {}, "additionalProperties": False},
    of({**TEXT, "description": "A name", "enum": ["x", "y"], "default": "x"}, required=["a"]),
    of({**TEXT, "format": "date-time", "minLength": 1, "maxLength": 9, "pattern": "^a+$"}),
    of({**WHOLE, "minimum": 0, "maximum": 9, "default": 3}),
    of({"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2}),
    of({"type": "array", "items": {"type": "array", "items": of(TEXT)}}),
    of({"anyOf": [{**TEXT, "description": "or nothing"}, NULL]}),
    of({"type": "object"}),
    of({"type": "object", "title": "Item", "properties": {"type": TEXT, "items": TEXT}, "required": ["items"]}),
]


@pytest.mark.parametrize("schema", FINE, ids=str)
def test_a_schema_that_is_fine_already_comes_out_equal(schema: Schema) -> None:
    assert problems(schema) == []
    assert portable_schema(schema) == schema


CASES: list[tuple[str, Any, Any]] = [
    (
        "a tuple of one type",
        {"type": "array", "prefixItems": [WHOLE, WHOLE], "minItems": 2, "maxItems": 2},
        {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2},
    ),
    (
        "a tuple of several types",
        {"type": "array", "prefixItems": [WHOLE, {**TEXT, "title": "label"}], "items": False},
        {
            "type": "array",
            "items": {"anyOf": [WHOLE, TEXT]},
            "maxItems": 2,
            "description": "In this order: integer, string (label).",
        },
    ),
    (
        "a tuple of draft 7 with a rest",
        {"type": "array", "items": [WHOLE], "additionalItems": TEXT},
        {"type": "array", "items": {"anyOf": [WHOLE, TEXT]}, "description": "In this order: integer."},
    ),
    ("const", {"const": "x"}, {**TEXT, "enum": ["x"]}),
    ("a const that is no text", {"const": True}, {"type": "boolean", "description": "Always: true."}),
    ("null", {"const": None}, NULL),
    ("oneOf", {"oneOf": [TEXT, WHOLE]}, {"anyOf": [TEXT, WHOLE]}),
    ("a union of one", {"anyOf": [TEXT], "description": "x"}, {**TEXT, "description": "x"}),
    ("a union in a union", {"anyOf": [{"oneOf": [TEXT, WHOLE]}, TEXT]}, {"anyOf": [TEXT, WHOLE]}),
    (
        "text and default beside a union",
        {"anyOf": [WHOLE, TEXT], "description": "The row", "default": 3},
        {"anyOf": [{**WHOLE, "description": "The row. Default: 3."}, TEXT]},
    ),
    ("types", {"type": ["string", "null"], "minLength": 1}, {"anyOf": [{**TEXT, "minLength": 1}, NULL]}),
    ("nullable", {**TEXT, "nullable": True}, {"anyOf": [TEXT, NULL]}),
    ("an enum with null", {"enum": ["x", None]}, {"anyOf": [{**TEXT, "enum": ["x"]}, NULL]}),
    (
        "an enum of numbers",
        {"enum": [1, 3]},
        {**WHOLE, "minimum": 1, "maximum": 3, "description": "One of: 1, 3."},
    ),
    ("an enum with an empty text", {"enum": ["", "x"]}, {**TEXT, "description": 'One of: "", "x".'}),
    (
        "a format",
        {**TEXT, "format": "uri", "description": "Where"},
        {**TEXT, "description": "Where. Format: uri."},
    ),
    ("whole numbers above", {**WHOLE, "exclusiveMinimum": 0}, {**WHOLE, "minimum": 1}),
    (
        "numbers above",
        {**NUMBER, "exclusiveMinimum": 0},
        {**NUMBER, "minimum": 0, "description": "Greater than 0."},
    ),
    ("draft 4 bounds", {**WHOLE, "maximum": 9, "exclusiveMaximum": True}, {**WHOLE, "maximum": 8}),
    ("steps", {**NUMBER, "multipleOf": 0.5}, {**NUMBER, "description": "A multiple of 0.5."}),
    (
        "a map",
        {"type": "object", "additionalProperties": WHOLE},
        {"type": "object", "description": "Any property names; each value: integer."},
    ),
    (
        "merged parts",
        {"allOf": [of(TEXT, required=["a"]), {"properties": {"b": WHOLE}, "required": ["b"]}]},
        {"type": "object", "properties": {"a": TEXT, "b": WHOLE}, "required": ["a", "b"]},
    ),
    (
        "merged bounds",
        {"allOf": [{**WHOLE, "minimum": 1}, {"minimum": 3, "maximum": 9}]},
        {**WHOLE, "minimum": 3, "maximum": 9},
    ),
    (
        "constraints beside a union",
        {**of(TEXT), "anyOf": [{"required": ["a"]}, {"properties": {"b": WHOLE}, "required": ["b"]}]},
        {
            "anyOf": [
                {**of(TEXT), "required": ["a"]},
                {"type": "object", "properties": {"b": WHOLE, "a": TEXT}, "required": ["b"]},
            ]
        },
    ),
    ("a list of anything", {"type": "array", "description": "x"}, None),
    ("anything", {}, None),
    ("anything else", True, None),
    ("no object", {"type": "object", "properties": {}}, {"type": "object"}),
    ("a name of a property that is not", {**of(TEXT), "required": ["a", "b"]}, of(TEXT, required=["a"])),
    ("a property that is never valid", {"type": "object", "properties": {"a": TEXT, "b": False}}, of(TEXT)),
    ("no duplicates", {"type": "array", "items": TEXT, "uniqueItems": True}, None),
    ("examples", {**TEXT, "examples": ["x", "y"]}, {**TEXT, "description": 'Examples: "x", "y".'}),
    ("annotations", {**TEXT, "$id": "x", "$comment": "y", "readOnly": True, "x-order": 1}, TEXT),
    ("a type that does not exist", {"type": "file", "description": "x"}, None),
    ("a type in capitals", {"type": "STRING"}, TEXT),
    ("keywords without a type", {"properties": {"b": {"minLength": 1}}}, None),
    ("look-around in a pattern", {**TEXT, "pattern": "^(?!x)"}, {**TEXT, "description": "Pattern: ^(?!x)."}),
    ("conditions", {**of(TEXT), "if": {"required": ["a"]}, "then": {"required": ["b"]}}, None),
    ("a remote reference", {"$ref": "https://example.org/x.json"}, None),
    ("a reference to nothing", {"$ref": "#/$defs/Missing"}, None),
]


@pytest.mark.parametrize(("name", "part", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_construct_has_a_form_that_both_accept(name: str, part: Any, expected: Any) -> None:
    before = copy.deepcopy(part)
    result = sent(part)
    assert part == before
    assert portable_schema(of(result)) == of(result)
    if expected is not None:
        assert result == expected


def test_a_list_without_items_takes_texts_numbers_and_objects() -> None:
    result = sent({"type": "array", "description": "Rows"})
    assert result["description"] == "Rows"
    jsonschema.validate(["x", 1.5, True, {"a": [1]}], result)


def test_what_has_no_field_is_told_in_words() -> None:
    condition = {**of(TEXT), "if": {"required": ["a"]}, "then": {"required": ["b"]}, "minProperties": 1}
    assert sent(condition)["description"] == (
        'if: {"required": ["a"]}. then: {"required": ["b"]}. Number of properties: at least 1.'
    )
    assert sent({"type": "array", "items": TEXT, "uniqueItems": True})["description"] == "No duplicates."
    assert sent({"type": "object", "patternProperties": {"^x": WHOLE}})["description"] == (
        'patternProperties: {"^x": {"type": "integer"}}.'
    )


def test_properties_may_be_called_like_keywords() -> None:
    names = ("items", "format", "$ref", "type", "anyOf", "enum", "required", "properties", "additionalProperties")
    schema = {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": list(names)}
    assert portable_schema(schema) == schema
    assert sent({"type": "array", "items": [schema]})["items"] == schema


# References


def test_a_reference_keeps_what_is_said_beside_it() -> None:
    definitions = {
        "Unit": {**TEXT, "enum": ["km", "mi"], "description": "A unit"},
        "a/b~c": {"$ref": "#/$defs/Unit"},
    }
    assert sent(
        {"$ref": "#/$defs/Unit", "description": "The unit to use", "default": "km"}, **{"$defs": definitions}
    ) == {
        **TEXT,
        "enum": ["km", "mi"],
        "description": "The unit to use",
        "default": "km",
    }
    assert (
        sent({"$ref": "#/definitions/a~1b~0c"}, definitions=definitions, **{"$defs": definitions})
        == (definitions["Unit"])
    )


def test_a_recursive_schema_is_shown_once_and_then_named() -> None:
    definitions = {
        "Node": {
            "type": "object",
            "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            "required": ["name"],
        }
    }
    result = sent({"$ref": "#/$defs/Node"}, **{"$defs": definitions})
    assert result["title"] == "Node"
    assert result["properties"]["children"]["items"] == {"type": "object", "description": "Another Node, nested."}


def test_a_schema_of_any_json_is_accepted() -> None:
    value = {"$ref": "#/$defs/Json"}
    definitions = {
        "Json": {"anyOf": [TEXT, NUMBER, NULL, {"type": "array", "items": value}, {"additionalProperties": value}]}
    }
    jsonschema.validate({"a": [{"x": 1}]}, portable_schema(of(value, **{"$defs": definitions})))
    assert sent(value, **{"$defs": definitions})


@pytest.mark.parametrize("reference", ["#", "#/properties/a"])
def test_a_schema_that_is_only_itself_is_accepted(reference: str) -> None:
    assert sent({"$ref": reference})


def nested(depth: int, wrap: Callable[[Any], Schema]) -> Schema:
    schema: Schema = {"type": "string"}
    for _ in range(depth):
        schema = wrap(schema)
    return of(schema)


def fans_out() -> Schema:
    """Each of 30 definitions uses the next one three times."""
    definitions = {
        f"D{number}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/D{number + 1}"} for key in "abc"}}
        for number in range(30)
    }
    return of({"$ref": "#/$defs/D0"}, **{"$defs": definitions})


def contains_itself() -> Schema:
    schema = of(TEXT)
    schema["properties"] |= {"b": schema, "c": {"anyOf": [schema, {"allOf": [schema]}]}}
    return schema


@pytest.mark.parametrize(
    "make",
    [
        lambda: nested(20_000, lambda inner: of(inner)),
        lambda: nested(20_000, lambda inner: {"type": "array", "items": inner}),
        lambda: nested(20_000, lambda inner: {"anyOf": [inner, {"type": "null"}]}),
        lambda: nested(20_000, lambda inner: {"allOf": [inner, {"description": "x"}]}),
        lambda: {"anyOf": [nested(20_000, lambda inner: {"anyOf": [inner]})]},
        lambda: nested(12, lambda inner: {"allOf": [copy.copy(inner), copy.copy(inner)]}),
        lambda: of(
            {"$ref": "#/$defs/0"}, **{"$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(9_000)}}
        ),
        lambda: of({"enum": [f"value {n}" for n in range(20_000)]}),
        lambda: of({"anyOf": [{"const": f"value {n}"} for n in range(3_000)]}),
        lambda: {"type": "object", "properties": {f"p{n}": {"type": "array"} for n in range(4_000)}},
        fans_out,
        contains_itself,
        lambda: {"anyOf": [contains_itself(), contains_itself()]},
    ],
)
def test_huge_and_endless_schemas_are_bounded(make: Callable[[], Schema]) -> None:
    schema = portable_schema(make())
    assert problems(schema) == []
    assert len(json.dumps(schema)) < 2_000_000
    assert schema["properties"]


def test_a_schema_that_is_too_large_loses_its_depth_before_its_parameters() -> None:
    schema = fans_out()
    schema["properties"] |= {"z": {**TEXT, "description": "last"}}
    result = portable_schema(schema)
    assert result["properties"]["z"] == {**TEXT, "description": "last"}
    assert set(result["properties"]["a"]["properties"]) == {"a", "b", "c"}


def test_a_named_tuple_says_what_its_items_are() -> None:
    made = tool_with(Point, [])
    (point,) = portable_schema(made.parameters)["properties"].values()
    assert point["description"] == "In this order: integer (X), string (Label)."


# The root


def test_a_union_at_the_root_becomes_one_object() -> None:
    schema = {
        "type": "object",
        "properties": {"name": TEXT},
        "required": ["name"],
        "oneOf": [
            {"properties": {"id": WHOLE, "at": TEXT}, "required": ["id", "at"]},
            {"properties": {"id": TEXT}, "required": ["id"]},
        ],
    }
    result = portable_schema(schema)
    assert problems(result) == []
    assert result["properties"] == {"name": TEXT, "id": {"anyOf": [WHOLE, TEXT]}, "at": TEXT}
    assert result["required"] == ["name", "id"]
    assert result["description"] == "Give the properties of one group: id, at or id."


@pytest.mark.parametrize(
    "root",
    [
        {},
        True,
        {"type": "object"},
        {"properties": {"a": TEXT}},
        {"$ref": "#/$defs/A", "$defs": {"A": of(TEXT)}},
        {"allOf": [of(TEXT), {"not": {"required": ["b"]}}]},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **of(TEXT)},
        {**of(TEXT), "enum": [{"a": "x"}]},
        MappingProxyType(of(MappingProxyType({**TEXT, "format": "uri"}))),
    ],
)
def test_the_root_is_an_object_with_properties(root: Any) -> None:
    assert problems(portable_schema(root)) == []


def test_an_answer_that_is_a_list_stays_a_list() -> None:
    pair = {"type": "array", "prefixItems": [WHOLE, WHOLE]}
    assert portable_schema(pair) == {"type": "array", "items": WHOLE}
    assert portable_schema({"anyOf": [TEXT, WHOLE]}) == {"anyOf": [TEXT, WHOLE]}


# Any schema


KEYWORDS = (
    *("$comment", "$ref", "additionalItems", "additionalProperties", "allOf", "anyOf", "const", "contains"),
    *("default", "dependentRequired", "deprecated", "description", "enum", "examples", "exclusiveMaximum"),
    *("exclusiveMinimum", "format", "if", "items", "maxItems", "maxLength", "maximum", "minItems", "minimum"),
    *("multipleOf", "not", "nullable", "oneOf", "pattern", "patternProperties", "prefixItems", "properties"),
    *("propertyNames", "required", "then", "title", "type", "unevaluatedProperties", "uniqueItems"),
)
NAMES = st.sampled_from(["a", "b", "items", "format", "$ref", "type", "x y", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)
TYPES = st.sampled_from(["string", "number", "integer", "boolean", "array", "object", "null", "file"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(inner, max_size=3)
    proper = {
        "$ref": st.sampled_from(["#", "#/$defs/A", "#/$defs/B", "#/properties/a", "#/$defs/None", "https://x/y"]),
        "type": TYPES | st.lists(TYPES, max_size=3),
        "required": st.lists(NAMES, max_size=3),
        "enum": st.lists(VALUES, max_size=4),
        "format": st.sampled_from(["date-time", "date", "uri", "int32"]),
        "items": inner | many,
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), many),
        **dict.fromkeys(("properties", "patternProperties"), st.dictionaries(NAMES, inner, max_size=3)),
        **dict.fromkeys(("additionalProperties", "additionalItems", "contains", "if", "not", "then"), inner),
    }
    keywords = {key: proper.get(key, VALUES) | VALUES for key in KEYWORDS}
    return st.fixed_dictionaries({}, optional=keywords)


SCHEMAS = st.recursive(st.booleans() | st.fixed_dictionaries({"type": TYPES}), schemas, max_leaves=12)


@given(SCHEMAS, SCHEMAS, SCHEMAS)
def test_any_schema_is_accepted(schema: Any, first: Any, second: Any) -> None:
    root = of(schema, **{"$defs": {"A": first, "B": second}})
    before = copy.deepcopy(root)
    result = portable_schema(root)
    assert problems(result) == []
    assert root == before
    assert portable_schema(result) == result


# The wire


ASKED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"window": [3, 9], "area": {"rows": [1, 2]}, "spans": [[4, 5]]}'},
}
ASKS = sse(delta(tool_calls=[{"index": 0, **ASKED}]), delta(finish="tool_calls"))


class StrictServer(ScriptedServer):
    """Refuses a request as OpenAI does, if a schema in it breaks a published rule of OpenAI or of Gemini."""

    async def _read(self, reader: asyncio.StreamReader) -> Request:  # type: ignore[override]
        request = await super()._read(reader)
        for number, sent_tool in enumerate(request.json.get("tools", ())):
            function = sent_tool["function"]
            found = problems(function["parameters"])
            if found:
                message = f"Invalid schema for function '{function['name']}': {found[0]}"
                error = {
                    "message": message,
                    "type": "invalid_request_error",
                    "param": f"tools[{number}].function.parameters",
                    "code": "invalid_function_parameters",
                }
                self._replies.appendleft(json_reply({"error": error}, "400 Bad Request"))
                break
        return request


@pytest.fixture
def strict_server() -> Iterator[StrictServer]:
    with StrictServer() as running:
        yield running


@dataclass
class Area:
    rows: tuple[int, int]
    columns: tuple[str, ...] = field(default=())


def looking(seen: list[Any]) -> Any:
    @tool
    def look(
        window: tuple[int, int],
        area: Area,
        spans: list[tuple[int, int]],
        other: tuple[int, str] | None = None,
    ) -> str:
        """Looks at rows.

        Args:
            window: first and last row
        """
        seen.append((window, area, spans, other))
        return "nothing there"

    return look


EXPECTED_CALL = ((3, 9), Area((1, 2)), [(4, 5)], None)


@pytest.mark.asyncio
async def test_a_tool_with_tuples_works_at_a_server_that_refuses_open_arrays(strict_server: StrictServer) -> None:
    seen: list[Any] = []
    strict_server.enqueue(ASKS)
    strict_server.enqueue(sse(delta("Done."), delta(finish="stop")))
    agent = CreateAgent("openai", "m", base_url=strict_server.openai_url, api_key="k", tools=[looking(seen)])
    assert await (await agent.chat("Look")) == "Done."
    assert seen == [EXPECTED_CALL]
    properties = strict_server.requests[0].json["tools"][0]["function"]["parameters"]["properties"]
    assert properties["window"] == {
        "type": "array",
        "items": WHOLE,
        "minItems": 2,
        "maxItems": 2,
        "description": "first and last row",
    }
    assert properties["spans"]["items"] == {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2}
    assert properties["area"]["properties"]["rows"] == {
        "type": "array",
        "items": WHOLE,
        "minItems": 2,
        "maxItems": 2,
    }
    assert properties["other"]["items"] == {"anyOf": [WHOLE, TEXT]}


@pytest.mark.asyncio
async def test_ollama_gets_the_same_form(strict_server: StrictServer) -> None:
    seen: list[Any] = []
    arguments = json.loads(ASKED["function"]["arguments"])  # type: ignore[index]
    call = {"function": {"name": "look", "arguments": arguments}}
    strict_server.enqueue(
        ndjson({"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": True})
    )
    strict_server.enqueue(
        ndjson({"message": {"role": "assistant", "content": "Done."}, "done": True, "done_reason": "stop"})
    )
    agent = CreateAgent("ollama", "m", base_url=strict_server.url, tools=[looking(seen)])
    assert await (await agent.chat("Look")) == "Done."
    assert seen == [EXPECTED_CALL]


class McpLike(BaseTool):
    name = "search"
    description = "Searches."
    parameters = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "query": {"$ref": "#/definitions/Query", "description": "What to look for"},
            "range": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
            "mode": {"oneOf": [{"const": "fast"}, {"const": "deep"}]},
            "site": {"type": ["string", "null"], "format": "uri"},
            "limit": {"type": "integer", "exclusiveMinimum": 0, "default": 5},
        },
        "required": ["query", "gone"],
        "definitions": {"Query": {"allOf": [{"type": "string"}, {"minLength": 1}]}},
    }

    def execute(self, **arguments: Any) -> str:
        return json.dumps(arguments)


@pytest.mark.asyncio
async def test_a_schema_of_another_program_is_sent_accepted_and_checked_as_it_was(
    strict_server: StrictServer,
) -> None:
    search = McpLike()
    search.parameters = {**search.parameters, "required": ["query"]}
    arguments = {"query": "x", "range": [1, "a"], "mode": "deep", "limit": 3}
    call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": json.dumps(arguments)}}
    strict_server.enqueue(sse(delta(tool_calls=[{"index": 0, **call}]), delta(finish="tool_calls")))
    strict_server.enqueue(sse(delta("ok"), delta(finish="stop")))
    agent = CreateAgent("openai", "m", base_url=strict_server.openai_url, api_key="k", tools=[search])
    assert await (await agent.chat("Search")) == "ok"
    assert json.loads(strict_server.requests[1].json["messages"][-1]["content"]) == arguments
    outcome = await ToolExecutor().execute(search, {"query": "x", "limit": 0})
    assert outcome.status == "invalid_arguments"
    outcome = await ToolExecutor().execute(search, {"query": "x", "range": ["a", 1]})
    assert outcome.status == "invalid_arguments"
    outcome = await ToolExecutor().execute(search, {"query": "x", "range": [1, "a", 2]})
    assert outcome.status == "invalid_arguments"


@pytest.mark.asyncio
async def test_the_strict_server_refuses_as_openai_does(strict_server: StrictServer) -> None:
    look = looking([])
    raw = {"type": "function", "function": {"name": "raw", "parameters": dict(look.parameters)}}
    agent = CreateAgent(
        "openai", "m", base_url=strict_server.openai_url, api_key="k", config={"extra": {"tools": [raw]}}
    )
    with pytest.raises(ProviderError, match="array schema missing items"):
        await (await agent.chat("Look"))


def test_the_schema_of_an_answer_takes_the_same_form() -> None:
    schema = of({"type": "array", "prefixItems": [WHOLE, WHOLE]}, required=["a"])
    wire = of({"type": "array", "items": WHOLE}, required=["a"])
    request = ChatRequest("m", (Message("user", "hi"),), output_schema=schema)
    body = openai_request.build_body(request, OPENAI)
    assert body["response_format"]["json_schema"]["schema"] == wire
    assert ollama_request.build_body(request)["format"] == wire
    assert schema["properties"]["a"] == {"type": "array", "prefixItems": [WHOLE, WHOLE]}


def test_a_schema_that_changes_is_sent_as_it_is_now() -> None:
    schema = of({**TEXT, "format": "uri"})
    assert portable_schema(schema)["properties"]["a"] == {**TEXT, "description": "Format: uri."}
    schema["properties"]["a"]["format"] = "email"
    assert portable_schema(schema)["properties"]["a"] == {**TEXT, "description": "Format: email."}


def test_odd_values_in_a_schema_are_bounded() -> None:
    odd = of({**WHOLE, "maximum": 10**400, "default": 10**30, "description": "half \ud800 a pair"})
    result = portable_schema(odd)
    assert problems(result) == []
    assert json.loads(json.dumps(result)) == result
    assert portable_schema(of({**TEXT, "default": object()}))["properties"]["a"]["type"] == "string"
    assert portable_schema(as_tool(McpLike).parameters)["required"] == ["query"]
