"""From a typed function to JSON Schema and back: what a model is told of it, and what it is called with.

pydantic and docstring-parser are imported when a schema is first needed, so that an agent is built at once.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import InvalidToolError
from .json_schema import simplify_schema

__all__ = ["FunctionSchema", "first_paragraph", "unwrap_function"]

_SECTIONS = ("args:", "arguments:", "parameters", "params:", "returns:", "raises:", "example", ":param", ":return")


def first_paragraph(doc: str | None) -> str:
    """The first paragraph of a docstring as one line; empty when it starts with its parameters."""
    text = " ".join(inspect.cleandoc(doc or "").split("\n\n", 1)[0].split())
    return "" if text.lower().startswith(_SECTIONS) else text


def unwrap_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that has the hints and the docstring: without partials, or ``__call__`` of an object."""
    while isinstance(function, partial):
        function = function.func
    # What has a name is a function, or stands for one as functools.lru_cache does.
    return function if hasattr(function, "__name__") else type(function).__call__


class FunctionSchema:
    """The parameters of one function.

    Args:
        function: a function, bound method, partial (what it has bound by name is not offered) or callable object.
        name: the tool's name, for messages.

    Raises:
        InvalidToolError: the signature cannot be offered: ``*args``, or none at all.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function, self._name = function, name
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise InvalidToolError(
                f"Tool {name!r} has no signature that can be read: wrap it in a function with typed parameters"
            ) from None
        bound = function.keywords if isinstance(function, partial) else {}
        self._parameters = {key: p for key, p in signature.parameters.items() if key not in bound}
        self._open = False
        for key, parameter in list(self._parameters.items()):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise InvalidToolError(
                    f"Tool {name!r} takes *{key}, which a model cannot fill in: use a list, {key}: list[str]"
                )
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._open = True
                del self._parameters[key]
        self._model: Any = None
        self._fields: dict[str, str] = {}

    def json_schema(self) -> dict[str, Any]:
        """Parameters as JSON Schema.

        A parameter without a hint takes the type of its default when that is a bool, number, string, list
        or dict, and any JSON value otherwise. A default that JSON cannot express is left out.

        Raises:
            InvalidToolError: a hint has no JSON Schema, or cannot be resolved.
        """
        from pydantic.errors import PydanticUserError

        model = self._get_model()
        try:
            schema = model.model_json_schema(by_alias=True)
        except PydanticUserError as error:
            raise self._no_schema_error(error) from error
        schema.pop("description", None)
        schema = simplify_schema(schema)
        properties = schema.setdefault("properties", {})
        for key, part in properties.items():
            default = self._parameters[key].default
            if default is inspect.Parameter.empty or type(default).__name__ == "FieldInfo":
                continue
            part.pop("default", None)
            if default is None:
                _drop_null(part)
            else:
                part.update(_json_default(default))
        schema["additionalProperties"] = self._open
        return schema

    def parse(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validated and converted arguments; what was not given is left to the function's own defaults.

        Common slips of weak models are forgiven: ``"3"`` for 3, null for "not given", a list or an object
        written as a string.

        Raises:
            ValueError: what is wrong, a parameter at a time.
            InvalidToolError: as `json_schema`.
        """
        from pydantic import ValidationError

        model = self._get_model()
        try:
            filled = model.model_validate(arguments)
        except ValidationError as error:
            try:
                filled = model.model_validate(self._repair_arguments(arguments, error))
            except ValidationError as still:
                raise ValueError(_format_errors(still)) from None
        given = filled.model_fields_set
        values = {
            key: getattr(filled, field)
            for key, field in self._fields.items()
            if field in given or type(self._parameters[key].default).__name__ == "FieldInfo"
        }
        return values | (filled.model_extra or {})

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """The function called with ``arguments``, positional-only parameters included."""
        rest = dict(arguments)
        positional = []
        for key, parameter in self._parameters.items():
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                if key not in rest:
                    break
                positional.append(rest.pop(key))
        return self._function(*positional, **rest)

    def _get_model(self) -> Any:
        if self._model is not None:
            return self._model
        from pydantic import BaseModel, ConfigDict, Field, create_model
        from pydantic.errors import PydanticUserError

        hints, texts = self._resolve_hints(), self._parameter_descriptions()
        fields: dict[str, Any] = {}
        for number, (key, parameter) in enumerate(self._parameters.items()):
            hint = hints.get(key, _infer_type(parameter.default))
            text = _annotated_description(hint) or texts.get(key)
            # Fields have names of our own: a parameter may be called "schema", "copy" or "_x".
            annotated = typing.Annotated[hint, Field(alias=key, description=text)]  # type: ignore[valid-type]
            self._fields[key] = field = f"parameter_{number}"
            default = parameter.default
            if default is inspect.Parameter.empty:
                fields[field] = (annotated, ...)
            else:
                fields[field] = (annotated, default if type(default).__name__ == "FieldInfo" else None)

        class Arguments(BaseModel):
            model_config = ConfigDict(
                extra="allow" if self._open else "forbid",
                arbitrary_types_allowed=False,
                coerce_numbers_to_str=True,
            )

        try:
            self._model = create_model("Arguments", __base__=Arguments, **fields)
        except (PydanticUserError, TypeError, NameError) as error:
            raise self._no_schema_error(error) from error
        return self._model

    def _resolve_hints(self) -> dict[str, Any]:
        function = unwrap_function(self._function)
        cells = inspect.unwrap(getattr(function, "__func__", function))
        names = getattr(getattr(cells, "__code__", None), "co_freevars", ())
        local = {}
        for name, cell in zip(names, getattr(cells, "__closure__", None) or (), strict=False):
            try:
                local[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        try:
            return typing.get_type_hints(function, localns=local, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise InvalidToolError(
                f"A type hint of tool {self._name!r} cannot be resolved: {error}. "
                "Define or import the type at the top level of the module or notebook"
            ) from error

    def _parameter_descriptions(self) -> dict[str, str]:
        doc = inspect.getdoc(unwrap_function(self._function))
        if not doc:
            return {}
        from docstring_parser import ParseError, parse

        try:
            found = parse(doc).params
        except ParseError:
            return {}
        return {
            key.strip().lstrip("*"): " ".join(entry.description.split())
            for entry in found
            if entry.description
            for key in entry.arg_name.split(",")
        }

    def _repair_arguments(self, arguments: Mapping[str, Any], error: Any) -> dict[str, Any]:
        mended = dict(arguments)
        for fault in error.errors(include_url=False, include_context=False):
            key = fault["loc"][0] if fault["loc"] else None
            if key not in mended or key not in self._parameters:
                continue
            value = mended[key]
            if value is None and self._parameters[key].default is not inspect.Parameter.empty:
                del mended[key]
            elif isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
                try:
                    mended[key] = json.loads(value)
                except ValueError:
                    continue
        return mended

    def _no_schema_error(self, error: BaseException) -> InvalidToolError:
        reason = str(error).split("\n", 1)[0].split(" Set `arbitrary_types_allowed", 1)[0].rstrip(". ")
        return InvalidToolError(
            f"Tool {self._name!r} has a parameter that JSON cannot express: {reason}. "
            "Use str, int, float, bool, list, dict, Literal, a dataclass or a pydantic model"
        )


def _infer_type(default: Any) -> Any:
    return type(default) if type(default) in (bool, int, float, str, list, dict) else Any


def _annotated_description(hint: Any) -> str | None:
    """``"text"`` of ``Annotated[int, "text"]``, or of a ``Doc("text")`` there."""
    for extra in getattr(hint, "__metadata__", ()):
        text = extra if isinstance(extra, str) else getattr(extra, "documentation", None)
        text = text or (extra.description if type(extra).__name__ == "FieldInfo" else None)
        if isinstance(text, str):
            return text
    return None


def _json_default(default: Any) -> dict[str, Any]:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return {"default": to_jsonable_python(default)}
    except (PydanticSerializationError, ValueError):
        return {}


def _drop_null(part: dict[str, Any]) -> None:
    """``int | None = None`` as plain, optional integer: what every server and template understands."""
    options = [option for option in part.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del part["anyOf"]
        for key, value in options[0].items():
            part.setdefault(key, value)
    elif options:
        part["anyOf"] = options


def _format_errors(error: Any) -> str:
    faults = error.errors(include_url=False, include_context=False)
    lines = []
    for fault in faults[:5]:
        where = ".".join(str(step) for step in fault["loc"]) or "arguments"
        got = "" if fault["type"] in ("missing", "extra_forbidden") else f" (got {_short_repr(fault['input'])})"
        message = "there is no such parameter" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{where}: {message}{got}")
    if len(faults) > 5:
        lines.append(f"and {len(faults) - 5} more")
    return "; ".join(lines)


def _short_repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
