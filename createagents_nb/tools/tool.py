"""Tools: `BaseTool`, the ``@tool`` decorator, and conversion of plain functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from ..errors import InvalidToolError, UnknownToolError
from .function_schema import FunctionSchema, first_paragraph, unwrap_function
from .json_schema import compile_schema

__all__ = ["BaseTool", "FunctionTool", "as_tool", "resolve_tools", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class BaseTool:
    """Base class of tools: a subclass sets the attributes and implements ``execute``.

    Attributes:
        name: at most 64 letters (a-z), digits, ``_`` and ``-``.
        description: what the tool does and when to use it; the model decides by this text.
        parameters: JSON Schema of the arguments; default none.
        in_thread: whether a synchronous ``execute`` runs in a thread; otherwise it blocks the event loop.
        timeout_s: timeout in seconds; None for the executor's default.
        requires_approval: whether each call must be approved by the user or by ``approve=`` of the agent.

    Example:
        >>> class Dice(BaseTool):
        ...     name = "dice"
        ...     description = "Rolls a die."
        ...     parameters = {"type": "object", "properties": {"sides": {"type": "integer"}}}
        ...
        ...     def execute(self, sides: int = 6) -> int:
        ...         return random.randint(1, sides)
    """

    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = {"type": "object", "properties": {}}  # noqa: RUF012 - overridden as in the guide
    in_thread: bool = True
    timeout_s: float | None = None
    requires_approval: bool = False

    def execute(self, *args: Any, **arguments: Any) -> Any:
        """Run the tool. Override it with ``def`` or ``async def``, with the parameters as keyword arguments.

        The model receives what it returns, or the error it raises.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute(): write one, sync or async")

    def parse_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validate arguments against ``parameters`` and the signature of ``execute``.

        Null for an optional argument means "not given" unless the schema allows null.

        Raises:
            ValueError: invalid arguments; the message is for the model.
            InvalidToolError: ``parameters`` is not a JSON Schema.
        """
        try:
            find_problems = compile_schema(self.parameters)
        except ValueError as error:
            raise InvalidToolError(f"The parameters of tool {self.name!r} are {error}") from error
        values = dict(arguments)
        problems = find_problems(values)
        if problems:
            required = self.parameters.get("required", ())
            values = {key: value for key, value in values.items() if value is not None or key in required}
            problems = find_problems(values)
        if problems:
            raise ValueError("; ".join(problems))
        try:
            inspect.signature(self.execute).bind(**values)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return values

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class FunctionTool(BaseTool, Generic[P, R]):
    """A function as a tool, made by `tool`; it can still be called like the function.

    Raises:
        InvalidToolError: no description, an invalid name, or ``*args``.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        in_thread: bool = True,
        requires_approval: bool = False,
    ) -> None:
        inner = unwrap_function(function)
        update_wrapper(self, inner, updated=())
        self.__wrapped__ = function
        if inner.__name__ == "__call__":  # a callable object is named after its class
            self.__name__ = type(function).__name__
        self.name = name or self.__name__
        self.description = (description or first_paragraph(inner.__doc__) or _class_doc(function, inner)).strip()
        self.timeout_s = timeout_s
        self.requires_approval = requires_approval
        # Calling an async function only creates its coroutine, which needs no thread.
        self.in_thread = in_thread and not (
            inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)
        )
        self._owner: type | None = None
        self._schema = FunctionSchema(function, self.name)
        _check_tool(self)

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def __get__(self, instance: Any, owner: type | None = None) -> FunctionTool[..., Any]:
        descriptor = getattr(type(self.__wrapped__), "__get__", None)
        if instance is None or descriptor is None or isinstance(self.__wrapped__, partial):
            return self
        return FunctionTool(
            descriptor(self.__wrapped__, instance, owner),
            name=self.name,
            description=self.description,
            timeout_s=self.timeout_s,
            in_thread=self.in_thread,
            requires_approval=self.requires_approval,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Rebuilt by the unpickler: the pydantic model of the schema cannot be pickled.
        options: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "timeout_s": self.timeout_s,
            "in_thread": self.in_thread,
            "requires_approval": self.requires_approval,
        }
        return partial(FunctionTool, **options), (self.__wrapped__,)

    @property
    def is_unbound_method(self) -> bool:
        """Whether it was defined in a class and not accessed on an instance of it."""
        return self._owner is not None and inspect.isfunction(self.__wrapped__)

    @cached_property
    def parameters(self) -> dict[str, Any]:  # type: ignore[override]
        """JSON Schema from hints, defaults and docstring, computed on first use.

        Raises:
            InvalidToolError: a hint has no JSON Schema.
        """
        return self._schema.json_schema()

    def execute(self, **arguments: Any) -> Any:
        """Call the function with these arguments; returns a coroutine if it is async."""
        return self._schema.call(arguments)

    def parse_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validate arguments and convert them to the types of the hints, such as ``date``."""
        return self._schema.parse(arguments)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    in_thread: bool = True,
    requires_approval: bool = False,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    in_thread: bool = True,
    requires_approval: bool = False,
) -> Any:
    """Make a typed function, sync or async, into a tool that can still be called like the function.

    The schema comes from the type hints, the defaults and the docstring (Google, NumPy or reST style); see
    `FunctionSchema.json_schema` for parameters without a hint.

    Args:
        function: the function, method or partial.
        name: name of the tool; default the function's.
        description: description for the model; default the first paragraph of the docstring.
        timeout_s: timeout in seconds; None for the executor's default.
        in_thread: run a synchronous function in a thread, off the event loop.
        requires_approval: require approval of each call, by the buttons in the cell or by
            ``CreateAgent(approve=…)``; a call that nobody can approve is rejected.

    Raises:
        InvalidToolError: no description, an invalid name, or ``*args``.

    Example:
        >>> @tool
        ... def rows(limit: int = 5) -> str:
        ...     '''First rows of the table.
        ...
        ...     Args:
        ...         limit: how many rows
        ...     '''
        ...     return df.head(limit).to_markdown()
    """
    options: dict[str, Any] = {
        "name": name,
        "description": description,
        "timeout_s": timeout_s,
        "in_thread": in_thread,
        "requires_approval": requires_approval,
    }
    if function is None:
        return partial(_make_function_tool, **options)
    return _make_function_tool(function, **options)


def _make_function_tool(function: Any, **options: Any) -> FunctionTool[..., Any]:
    if isinstance(function, classmethod):
        raise InvalidToolError("Put @tool below @classmethod, next to the function")
    if isinstance(function, BaseTool):
        raise InvalidToolError(f"{function.name!r} is a tool already: write @tool once")
    if isinstance(function, type) or not callable(function):
        raise InvalidToolError(
            f"tool() makes a tool of a function, not of {function!r}: write a function with typed parameters, "
            "or a subclass of BaseTool"
        )
    return FunctionTool(function, **options)


def as_tool(obj: Any) -> BaseTool:
    """Convert a function, or a `BaseTool` class that takes no arguments, to a tool; return a `BaseTool` as it is.

    Raises:
        InvalidToolError: it is not a valid tool; the message says what to do.
    """
    if isinstance(obj, type) and issubclass(obj, BaseTool):
        try:
            obj = obj()
        except TypeError as error:
            raise InvalidToolError(
                f"{obj.__name__} cannot be made without arguments ({error}): pass an instance, {obj.__name__}(…)"
            ) from error
    if not isinstance(obj, BaseTool):
        return _make_function_tool(obj)
    _check_tool(obj)
    if isinstance(obj, FunctionTool):
        if obj.is_unbound_method:
            raise InvalidToolError(f"{obj.name!r} is a method: take it from an instance, tools=[obj.{obj.name}]")
        return obj
    parameters = obj.parameters
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise InvalidToolError(
            f"The parameters of tool {obj.name!r} must be a JSON Schema of an object: "
            '{"type": "object", "properties": {…}}'
        )
    return obj


def resolve_tools(
    tools: Iterable[Any] | None, builtins: Mapping[str, Callable[[], BaseTool]]
) -> tuple[BaseTool, ...]:
    """Convert the items of ``tools=[…]`` with `as_tool`; a string names one of ``builtins``.

    Raises:
        UnknownToolError: no built-in tool has this name.
        InvalidToolError: as `as_tool`; duplicate names; not a list.
    """
    if isinstance(tools, (str, BaseTool, Mapping)) or (tools is not None and not isinstance(tools, Iterable)):
        raise InvalidToolError("tools must be a list: tools=[…], also when there is only one")
    resolved: dict[str, BaseTool] = {}
    for entry in tools or ():
        if isinstance(entry, str):
            if entry not in builtins:
                raise UnknownToolError(
                    f"There is no built-in tool {entry!r}; available: {', '.join(sorted(builtins))}. "
                    "A function of your own is passed without quotes"
                )
            entry = builtins[entry]()
        converted = as_tool(entry)
        if converted.name in resolved:
            raise InvalidToolError(
                f"Two tools are called {converted.name!r}: give one another name, tool(name=…)(function)"
            )
        resolved[converted.name] = converted
    return tuple(resolved.values())


def _class_doc(function: Any, inner: Any) -> str:
    return first_paragraph(type(function).__doc__) if inner.__name__ == "__call__" else ""


def _check_tool(candidate: BaseTool) -> None:
    """Check what is cheap: name, description and options. The schema is checked on first use."""
    name, description, timeout_s = candidate.name, candidate.description, candidate.timeout_s
    kind = type(candidate).__name__
    function = isinstance(candidate, FunctionTool)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        where = "tool(name=…)(function)" if function else f"the attribute `name` of {kind}"
        raise InvalidToolError(
            f"{name!r} cannot be a tool's name: 1 to 64 letters (a-z), digits, _ or -. Set it with {where}"
        )
    if not isinstance(description, str) or not description.strip():
        where = "a docstring, or tool(description=…)" if function else f"the attribute `description` of {kind}"
        raise InvalidToolError(f"Tool {name!r} has no description, and a model decides by it. Write one: {where}")
    if timeout_s is not None and not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
        raise InvalidToolError(f"timeout_s of tool {name!r} must be seconds above 0, not {timeout_s!r}")
    if not isinstance(candidate.requires_approval, bool):
        raise InvalidToolError(
            f"requires_approval of tool {name!r} must be True or False, not {candidate.requires_approval!r}"
        )
