"""The parameters of a typed function as JSON Schema, and arguments validated and converted to call it.

pydantic and docstring-parser are imported when a schema is first needed, so that creating an agent is fast.
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
    """Return the first paragraph of a docstring as one line, or "" if that is a section such as ``Args:``."""
    text = " ".join(inspect.cleandoc(doc or "").split("\n\n", 1)[0].split())
    return "" if text.lower().startswith(_SECTIONS) else text


def unwrap_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the hints and the docstring: inside partials, or ``__call__`` of an object."""
    while isinstance(function, partial):
        function = function.func
    # Anything with a __name__ is a function or wraps one, as functools.lru_cache does.
    return function if hasattr(function, "__name__") else type(function).__call__


class FunctionSchema:
    """The parameters of one function.

    Args:
        function: a function, bound method, partial (without the keywords it binds) or callable object.
        name: name of the tool, for messages.

    Raises:
        InvalidToolError: the function takes ``*args`` or has no readable signature.
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
        """Return the parameters as JSON Schema.

        A parameter without a hint has the type of its default if that is a bool, number, string, list or dict, and
        accepts any JSON value otherwise. A default that cannot be represented in JSON is left out.

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
        """Validate and convert arguments; parameters that are not given keep the function's defaults.

        Common mistakes of weak models are accepted: ``"3"`` for 3, null for an optional parameter, a list or
        object encoded as a string.

        Raises:
            ValueError: invalid arguments; the message names each parameter.
            InvalidToolError: as `json_schema`.
        """
        from pydantic import ValidationError

        model = self._get_model()
        try:
            filled = model.model_validate(arguments)
        except ValidationError as error:
            try:
                filled = model.model_validate(self._repair_arguments(arguments, error))
            except ValidationError as remaining:
                raise ValueError(_format_errors(remaining)) from None
        given = filled.model_fields_set
        values = {
            key: getattr(filled, field)
            for key, field in self._fields.items()
            if field in given or type(self._parameters[key].default).__name__ == "FieldInfo"
        }
        return values | (filled.model_extra or {})

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with ``arguments``, including positional-only parameters."""
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
            # Not the parameters' names, which pydantic may reject: "schema", "copy", "_x".
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
        closure = inspect.unwrap(getattr(function, "__func__", function))
        names = getattr(getattr(closure, "__code__", None), "co_freevars", ())
        local = {}
        for name, cell in zip(names, getattr(closure, "__closure__", None) or (), strict=False):
            try:
                local[name] = cell.cell_contents
            except ValueError:  # an unassigned variable
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
            parameters = parse(doc).params
        except ParseError:
            return {}
        return {
            key.strip().lstrip("*"): " ".join(entry.description.split())
            for entry in parameters
            if entry.description
            for key in entry.arg_name.split(",")
        }

    def _repair_arguments(self, arguments: Mapping[str, Any], error: Any) -> dict[str, Any]:
        repaired = dict(arguments)
        for fault in error.errors(include_url=False, include_context=False):
            key = fault["loc"][0] if fault["loc"] else None
            if key not in repaired or key not in self._parameters:
                continue
            value = repaired[key]
            if value is None and self._parameters[key].default is not inspect.Parameter.empty:
                del repaired[key]
            elif isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
                try:
                    repaired[key] = json.loads(value)
                except ValueError:
                    continue
        return repaired

    def _no_schema_error(self, error: BaseException) -> InvalidToolError:
        reason = str(error).split("\n", 1)[0].split(" Set `arbitrary_types_allowed", 1)[0].rstrip(". ")
        return InvalidToolError(
            f"Tool {self._name!r} has a parameter that JSON cannot express: {reason}. "
            "Use str, int, float, bool, list, dict, Literal, a dataclass or a pydantic model"
        )


def _infer_type(default: Any) -> Any:
    return type(default) if type(default) in (bool, int, float, str, list, dict) else Any


def _annotated_description(hint: Any) -> str | None:
    """Return the description in ``Annotated[int, "text"]`` or ``Annotated[int, Doc("text")]``."""
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
    """Describe ``int | None = None`` as an optional integer, which every server and chat template accepts."""
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
