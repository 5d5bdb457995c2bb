"""`BaseTool`, ``@tool``, and what ``tools=[…]`` accepts."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from createagents_nb.builtin_tools import BUILTIN_TOOLS
from createagents_nb.errors import InvalidToolError, UnknownToolError
from createagents_nb.tools.tool import BaseTool, FunctionTool, as_tool, resolve_tools, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


class Order(BaseModel):
    item: str
    where: Point | None = None


@tool
def rows(limit: int = 5) -> str:
    """First rows of the table.

    Args:
        limit: how many rows
    """
    return "row\n" * limit


def properties(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(tool(description="d")(function).parameters["properties"])


# The decorator


def test_a_decorated_function_is_a_tool_and_still_the_function() -> None:
    assert isinstance(rows, BaseTool)
    assert rows(3) == "row\n" * 3
    assert (rows.name, rows.__name__, rows.description) == ("rows", "rows", "First rows of the table.")
    assert inspect.getdoc(rows).startswith("First rows")  # type: ignore[union-attr]
    assert inspect.isfunction(rows.__wrapped__)
    assert rows.parameters == {
        "type": "object",
        "properties": {"limit": {"type": "integer", "default": 5, "description": "how many rows"}},
        "additionalProperties": False,
    }


@pytest.mark.asyncio
async def test_a_decorated_async_function_returns_its_coroutine() -> None:
    @tool
    async def double(n: int) -> int:
        """Doubles."""
        await asyncio.sleep(0)
        return 2 * n

    assert await double(4) == 8
    assert double.in_thread is False


def test_options_replace_what_the_function_says() -> None:
    @tool(name="total", description="Adds up.", timeout_s=3, in_thread=False)
    def f(values: list[float]) -> float:
        return sum(values)

    assert (f.name, f.description, f.timeout_s, f.in_thread) == ("total", "Adds up.", 3, False)
    assert f([1, 2]) == 3


def test_a_method_becomes_a_tool_of_its_instance() -> None:
    class Table:
        def __init__(self, size: int) -> None:
            self.size = size

        @tool
        def count(self, factor: int = 1) -> int:
            """Counts the rows."""
            return self.size * factor

        @staticmethod
        @tool
        def kinds() -> str:
            """Says the kinds."""
            return "a, b"

        @classmethod
        def make(cls, size: int) -> Table:
            """Makes one."""
            return cls(size)

    table = Table(4)
    assert table.count(factor=2) == 8
    assert set(as_tool(table.count).parameters["properties"]) == {"factor"}
    assert as_tool(table.count).execute(factor=3) == 12
    assert as_tool(Table.kinds).execute() == "a, b"
    assert as_tool(Table.make).execute(size=7).size == 7
    with pytest.raises(InvalidToolError, match=r"take it from an instance"):
        as_tool(Table.count)


def test_what_a_partial_has_bound_is_not_offered() -> None:
    def read(table: str, limit: int, offset: int = 0) -> str:
        """Reads a table."""
        return f"{table} {limit} {offset}"

    by_name = as_tool(functools.partial(read, limit=3))
    assert set(by_name.parameters["properties"]) == {"table", "offset"}
    assert by_name.execute(table="t", offset=1) == "t 3 1"
    assert as_tool(functools.partial(read, "t")).execute(limit=2) == "t 2 0"


def test_callable_objects_and_cached_functions_are_tools_too() -> None:
    class Greet:
        """Greets somebody."""

        def __call__(self, who: str) -> str:
            return f"hello {who}"

    greet = as_tool(Greet())
    assert (greet.name, greet.description, greet.execute(who="you")) == ("Greet", "Greets somebody.", "hello you")

    @functools.lru_cache
    def square(n: int) -> int:
        """Squares."""
        return n * n

    assert as_tool(square).parameters["properties"] == {"n": {"type": "integer"}}


def test_the_function_keeps_its_positional_only_parameters() -> None:
    @tool
    def divide(a: float, b: float = 2, /, *, digits: int = 1) -> float:
        """Divides."""
        return round(a / b, digits)

    assert set(divide.parameters["properties"]) == {"a", "b", "digits"}
    assert divide.execute(a=9, b=4, digits=2) == 2.25
    assert divide.execute(a=9) == 4.5


# The schema


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (Literal["x", "y"], {"type": "string", "enum": ["x", "y"]}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (datetime, {"type": "string", "format": "date-time"}),
        (Path, {"type": "string", "format": "path"}),
        (Any, {}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Annotated[int, Field(ge=1, description="count")],
            {"type": "integer", "minimum": 1, "description": "count"},
        ),
    ],
)
def test_hints_become_json_schema(hint: Any, expected: dict[str, Any]) -> None:
    def f(value: Any) -> None: ...

    f.__annotations__["value"] = hint
    made = tool(description="d")(f).parameters
    assert made["properties"]["value"] == expected
    assert made["required"] == ["value"]


def test_an_optional_parameter_is_offered_as_its_plain_type() -> None:
    def f(a: int | None = None, b: Optional[str] = None, c: int | str | None = None) -> None: ...  # noqa: UP045

    assert properties(f) == {
        "a": {"type": "integer"},
        "b": {"type": "string"},
        "c": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    }


def test_null_stays_possible_where_it_must_be_said() -> None:
    def f(a: int | None) -> None: ...

    assert properties(f)["a"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_structures_are_written_where_they_are_used_and_recursive_ones_are_not() -> None:
    def f(order: Order, tree: Tree) -> None: ...

    schema = tool(description="d")(f).parameters
    point = schema["properties"]["order"]["properties"]["where"]["anyOf"][0]
    assert point["properties"]["x"] == {"type": "integer"}
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert list(schema["$defs"]) == ["Tree"]


def test_parameters_may_have_any_name() -> None:
    @tool
    def f(schema: int, copy: int = 2, _hidden: int = 3, title: str = "t", model_config: int = 4) -> list[Any]:
        """Names."""
        return [schema, copy, _hidden, title, model_config]

    assert set(f.parameters["properties"]) == {"schema", "copy", "_hidden", "title", "model_config"}
    assert f.execute(**f.parse_arguments({"schema": 1, "_hidden": 9})) == [1, 2, 9, "t", 4]


def test_without_a_hint_the_default_tells_the_type() -> None:
    def f(a, b=5, c="x", d=None, e=(1,)):  # type: ignore[no-untyped-def]
        ...

    assert properties(f) == {
        "a": {},
        "b": {"type": "integer", "default": 5},
        "c": {"type": "string", "default": "x"},
        "d": {},
        "e": {"default": [1]},
    }


def test_defaults_are_shown_where_json_can_express_them() -> None:
    marker = object()

    def f(day: date = date(2026, 1, 2), colour: Colour = Colour.BLUE, other: Any = marker) -> None: ...

    shown = {name: part.get("default") for name, part in properties(f).items()}
    assert shown == {"day": "2026-01-02", "colour": "blue", "other": None}


def test_a_field_may_stand_as_the_default() -> None:
    @tool
    def f(limit: int = Field(5, ge=1, description="how many")) -> int:
        """Limits."""
        return limit

    assert f.parameters["properties"]["limit"] == {
        "type": "integer",
        "minimum": 1,
        "default": 5,
        "description": "how many",
    }
    assert f.execute(**f.parse_arguments({})) == 5


GOOGLE = """Reads.

More about it.

Args:
    path: where the
        file is
    limit (int): how many

Returns:
    text
"""
NUMPY = """Reads.

Parameters
----------
path : str
    where the
    file is
limit : int, optional
    how many
"""
REST = """Reads.

:param path: where the
    file is
:param int limit: how many
:returns: text
"""


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_docstrings_describe_parameters(doc: str) -> None:
    def read(path: str, limit: int = 3) -> str:
        return path * limit

    read.__doc__ = doc
    made = tool(read)
    assert made.description == "Reads."
    described = {name: part["description"] for name, part in made.parameters["properties"].items()}
    assert described == {"path": "where the file is", "limit": "how many"}


def test_keyword_parameters_leave_the_schema_open() -> None:
    @tool
    def f(a: int, **rest: Any) -> dict[str, Any]:
        """Takes anything."""
        return {"a": a, **rest}

    assert f.parameters["additionalProperties"] is True
    assert f.execute(**f.parse_arguments({"a": 1, "b": [2]})) == {"a": 1, "b": [2]}


def test_types_of_an_enclosing_function_are_found() -> None:
    class Local(BaseModel):
        n: int

    local = Local

    @tool
    def f(value: local) -> int:  # type: ignore[valid-type]
        """Takes a local type."""
        assert local is not None
        return value.n  # type: ignore[no-any-return,attr-defined]

    assert f.execute(**f.parse_arguments({"value": {"n": 3}})) == 3


# Arguments


def test_arguments_arrive_as_the_types_of_the_hints() -> None:
    @tool
    def f(day: date, path: Path, at: Point, colour: Colour, n: int, tree: Tree) -> list[Any]:
        """Takes types."""
        return [day, path, at, colour, n, tree]

    given = {
        "day": "2026-03-29",
        "path": "a/b",
        "at": {"x": "4"},
        "colour": "red",
        "n": "3",
        "tree": {"value": 1, "children": [{"value": 2}]},
    }
    assert f.execute(**f.parse_arguments(given)) == [
        date(2026, 3, 29),
        Path("a/b"),
        Point(4),
        Colour.RED,
        3,
        Tree(1, [Tree(2)]),
    ]


def test_slips_of_weak_models_are_forgiven() -> None:
    @tool
    def f(zip_code: str, limit: int = 5, values: list[int] | None = None, at: Point | None = None) -> list[Any]:
        """Forgives."""
        return [zip_code, limit, values, at]

    arguments = f.parse_arguments({"zip_code": 1050, "limit": None, "values": "[1, 2]", "at": '{"x": 1}'})
    assert f.execute(**arguments) == ["1050", 5, [1, 2], Point(1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": "many"}, r"limit: .*integer.*got 'many'"),
        ({"limit": 3, "limt": 4}, r"limt: there is no such parameter"),
        ({"limit": None, "x": 1}, r"x: there is no such parameter"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows.parse_arguments(arguments)


class Fetch(BaseTool):
    name = "fetch"
    description = "Fetches."
    parameters = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1},
            "depth": {"type": "integer", "minimum": 1},
            "mode": {"enum": ["fast", "full"]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        },
        "required": ["url"],
        "$defs": {"tag": {"type": ["string", "integer"]}},
    }

    def execute(self, url: str, depth: int = 1, mode: str = "fast", tags: tuple[str, ...] = ()) -> str:
        return f"{url} {depth} {mode}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"url"),
        ({"url": 3}, r"url: must be string"),
        ({"url": ""}, r"url"),
        ({"url": "x", "depth": 0}, r"depth: must be bigger than or equal to 1"),
        ({"url": "x", "mode": "slow"}, r"mode: must be one of"),
        ({"url": "x", "tags": ["a", 1, 1.5]}, r"tags\.2: must be string or integer"),
        ({"url": "x", "timeout": 3}, r"timeout"),
    ],
)
def test_arguments_are_checked_against_a_written_schema(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fetch().parse_arguments(arguments)


def test_good_arguments_pass_a_written_schema_unchanged() -> None:
    given = {"url": "x", "depth": 2, "tags": ["a", 1]}
    assert Fetch().parse_arguments(given) == given
    assert Fetch().parse_arguments({"url": "x", "depth": None}) == {"url": "x"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        {"type": "object", "properties": {"a": {"pattern": "("}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.invalid/schema.json"}}},
        {"type": "object", "properties": {"a": {"const": object()}}},
    ],
)
def test_a_broken_schema_is_the_tools_fault(parameters: dict[str, Any]) -> None:
    class Broken(Fetch):
        pass

    Broken.parameters = parameters
    with pytest.raises(InvalidToolError, match=r"'fetch' are not a JSON Schema"):
        Broken().parse_arguments({"a": "x"})


# What tools=[…] may hold


def test_objects_classes_functions_and_names_are_resolved_in_order() -> None:
    def plain(n: int) -> int:
        """Plain."""
        return n

    async def later() -> None:
        """Later."""

    found = resolve_tools([rows, Fetch, plain, "currentdate", later], BUILTIN_TOOLS)
    assert [t.name for t in found] == ["rows", "fetch", "plain", "currentdate", "later"]
    assert found[0] is rows
    assert isinstance(found[2], FunctionTool)
    assert resolve_tools(None, BUILTIN_TOOLS) == ()


def test_a_subclass_needs_no_call_of_the_base_constructor() -> None:
    class Dice(BaseTool):
        name = "dice"
        description = "Rolls."

        def __init__(self, seed: int) -> None:
            self.random = random.Random(seed)

        def execute(self) -> int:
            return self.random.randint(1, 6)

    assert 1 <= as_tool(Dice(1)).execute() <= 6
    assert Dice(1).parameters == {"type": "object", "properties": {}}
    with pytest.raises(InvalidToolError, match=r"pass an instance, Dice\(…\)"):
        as_tool(Dice)


def test_a_tool_without_description_is_refused_with_the_way_out() -> None:
    def silent(n: int) -> int:
        return n

    def only_parameters(n: int) -> int:
        """Args:
        n: number
        """
        return n

    class Quiet(BaseTool):
        name = "quiet"

    for function in (silent, only_parameters):
        with pytest.raises(InvalidToolError, match=r"has no description.*a docstring, or tool\(description=…\)"):
            tool(function)
    with pytest.raises(InvalidToolError, match=r"'quiet' has no description.*attribute `description` of Quiet"):
        as_tool(Quiet())


@pytest.mark.parametrize("name", ["", "two words", "naïve", "x" * 65, "a.b", "a\n"])
def test_a_name_that_no_provider_takes_is_refused(name: str) -> None:
    class Named(BaseTool):
        description = "d"

    Named.name = name
    with pytest.raises(InvalidToolError, match=r"cannot be a tool's name"):
        as_tool(Named())


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidToolError, match=r"'<lambda>'.*tool\(name=…\)"):
        tool(description="d")(lambda n: n)
    assert tool(name="same", description="d")(lambda n: n).name == "same"


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidToolError, match=r"Two tools are called 'rows'"):
        resolve_tools([rows, tool(name="rows", description="d")(lambda: 1)], {})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownToolError, match=r"'currentdat'; available: currentdate, readlocalfile"):
        resolve_tools(["currentdat"], BUILTIN_TOOLS)


def takes_many(*values: int) -> None:
    """Takes many."""


@pytest.mark.parametrize("wrong", [3, None, dict, object(), {"name": "x"}, takes_many, print])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidToolError):
        as_tool(wrong)


@pytest.mark.parametrize("wrong", ["currentdate", rows, 3, {"name": "x"}])
def test_tools_must_be_a_list(wrong: Any) -> None:
    with pytest.raises(InvalidToolError, match=r"tools must be a list"):
        resolve_tools(wrong, BUILTIN_TOOLS)


def test_a_hint_that_json_cannot_express_is_refused_when_the_schema_is_needed() -> None:
    class Handle: ...

    def f(handle: Any) -> None:
        """Takes a handle."""

    def g(then: Callable[[], None]) -> None:
        """Takes a callback."""

    f.__annotations__["handle"] = Handle
    for function in (f, g):
        made = as_tool(function)
        with pytest.raises(
            InvalidToolError, match=rf"Tool '{function.__name__}' has a parameter that JSON cannot"
        ):
            _ = made.parameters


def test_a_hint_that_cannot_be_resolved_names_the_way_out() -> None:
    @tool
    def f(value: NowhereDefined) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Takes what is nowhere."""

    with pytest.raises(InvalidToolError, match=r"NowhereDefined.*top level"):
        _ = f.parameters


@pytest.mark.parametrize("wrong", [0, -1, "3"])
def test_a_timeout_must_be_above_zero(wrong: Any) -> None:
    with pytest.raises(InvalidToolError, match=r"timeout_s of tool 'f'"):
        tool(name="f", description="d", timeout_s=wrong)(lambda: 1)


def test_decorators_in_the_wrong_order_are_explained() -> None:
    with pytest.raises(InvalidToolError, match=r"below @classmethod"):
        tool(classmethod(takes_many))  # type: ignore[arg-type, call-overload]
    with pytest.raises(InvalidToolError, match=r"is a tool already"):
        tool(rows)


def test_making_a_tool_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from createagents_nb.tools.tool import resolve_tools, tool\n"
        "from createagents_nb.builtin_tools import BUILTIN_TOOLS\n"
        "def f(n: int = 1):\n    'Does f.'\n"
        "resolve_tools([f, 'currentdate', 'readlocalfile'], BUILTIN_TOOLS)\n"
        "heavy = {'pydantic', 'pandas', 'fastjsonschema', 'docstring_parser', 'yaml', 'pyarrow', 'openpyxl'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
