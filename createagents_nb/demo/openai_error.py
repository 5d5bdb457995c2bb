"""Errors in OpenAI's format and wording."""

from __future__ import annotations

from typing import Any

from .conversation import MODELS

__all__ = ["OpenAIError", "check_type", "empty_array", "missing_parameter", "model_not_found"]


class OpenAIError(Exception):
    """An error response in OpenAI's format."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


def model_not_found(model: object) -> OpenAIError:
    """Make the 404 error for an unknown model."""
    available = ", ".join(MODELS)
    message = f"The model '{model}' does not exist or you do not have access to it. Available here: {available}."
    return OpenAIError(404, message, code="model_not_found")


def _describe_type(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
    }
    return names.get(type(value), "null")


def check_type(ok: bool, param: str, expected: str, value: Any) -> None:
    """Reject ``value`` unless ``ok``.

    Raises:
        OpenAIError: not ``ok``; the message names ``param``, and the expected and actual types.
    """
    if not ok:
        message = f"Invalid type for '{param}': expected {expected}, but got {_describe_type(value)} instead."
        raise OpenAIError(400, message, param=param, code="invalid_type")


def missing_parameter(param: str) -> OpenAIError:
    message = f"Missing required parameter: '{param}'."
    return OpenAIError(400, message, param=param, code="missing_required_parameter")


def empty_array(param: str) -> OpenAIError:
    message = (
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    )
    return OpenAIError(400, message, param=param, code="empty_array")
