"""The tree of errors: as it is drawn, and kind to who sees one."""

from __future__ import annotations

import re

import pytest

from createagents_nb import CreateAgentsError, bridge, errors
from createagents_nb.errors import (
    ConfigurationError,
    InvalidMessageError,
    MissingKeyError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
)


def drawn() -> dict[str, str]:
    """Each error of the picture and the one it hangs from."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"(?P<lead>[ │├└─]*)(?P<name>[A-Z]\w+)\b", line)
        if found is None or not line.startswith("    "):
            continue
        depth = (len(found["lead"]) - 4) // 4
        del path[depth:]
        if path:
            parents[found["name"]] = path[-1]
        path.append(found["name"])
    return parents


def real() -> dict[str, str]:
    classes = [getattr(errors, name) for name in errors.__all__]
    return {one.__name__: one.__bases__[0].__name__ for one in classes if one is not CreateAgentsError}


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    assert drawn() == real()


def test_every_error_of_the_module_is_exported_and_explained() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__)
    assert list(errors.__all__) == sorted(errors.__all__)
    assert all(getattr(errors, name).__doc__ for name in errors.__all__)


def test_a_wrong_setting_is_also_a_value_error() -> None:
    assert issubclass(MissingKeyError, ValueError)
    assert not issubclass(ProviderError, ValueError)
    assert issubclass(bridge.BridgeError, CreateAgentsError)


def test_a_provider_error_knows_who_and_which_status() -> None:
    error = RateLimitError("later", provider="openai", status_code=429)
    assert (str(error), error.provider, error.status_code) == ("later", "openai", 429)
    assert (ProviderTimeoutError("slow").provider, ProviderTimeoutError("slow").status_code) == (None, None)


def test_a_notebook_shows_one_line_and_no_page_of_traceback() -> None:
    (line,) = InvalidMessageError("The message is empty")._render_traceback_()
    assert re.sub(r"\x1b\[\d+m", "", line) == "InvalidMessageError: The message is empty"


def test_one_except_catches_all_of_it() -> None:
    with pytest.raises(CreateAgentsError):
        raise ConfigurationError("wrong")
