"""The headers and the query that a user adds to every request: checked, and merged with ours.

Errors name a header and never show its value, which may be a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from ..errors import ConfigurationError
from ..redaction import Secret, holds_key
from .addresses import can_be_header, mask_header

__all__ = ["checked_headers", "checked_query", "merged_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name: https://www.rfc-editor.org/rfc/rfc9110#name-field-names"""
_COMPUTED = frozenset({"connection", "content-length", "transfer-encoding"})


def checked_headers(headers: Any) -> dict[str, str | None]:
    """Return the headers as they can be sent; keys in them are each a `Secret`, and masked from now on.

    Args:
        headers: from `createagents_nb.redaction.as_secret_values`. None as a value removes a header of ours.

    Raises:
        ConfigurationError: not a dict, or a header that cannot be sent.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a dict of strings, not {_type_name(headers)}")
    seen: set[str] = set()
    for name, value in headers.items():
        flaw = _header_flaw(name, value, seen)
        if flaw is not None:
            raise ConfigurationError(flaw)
        seen.add(name.lower())
    return {
        name: value if value is None else mask_header(value) if holds_key(name, value) else str(value)
        for name, value in headers.items()
    }


def _header_flaw(name: object, value: object, seen: set[str]) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(_beginning(name)) if isinstance(name, str) else type(name).__name__
        return f"headers: {shown} is not the name of a header. Write headers={{'X-Name': 'value'}}"
    if name.lower() in _COMPUTED:
        return f"headers: {name} is computed for each request. Leave it out"
    if name.lower() in seen:
        return f"headers: {name} is given twice, and upper and lower case are the same. Leave one out"
    if value is None:
        return None
    if not isinstance(value, str):
        return (
            f"headers: the value of {name} must be a string, or None to leave it out, not {type(value).__name__}"
        )
    if not can_be_header(value):
        return f"headers: the value of {name} has a line end or another control character. Copy it again without"
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return f"headers: the value of {name} has characters that no header can hold. Use ASCII, or encode them"
    return None


def _beginning(name: str) -> str:
    """The part of a wrong name that can be shown: a whole header was perhaps given as one."""
    found = _NAME.match(name)
    return f"{'' if found is None else found[0][:40]}…"


def checked_query(query: Any) -> dict[str, str]:
    """Return the query as it can be sent; keys in it are each a `Secret`, and masked from now on.

    Raises:
        ConfigurationError: not a dict, or a name or value that cannot be sent.
    """
    if query is None:
        return {}
    if not isinstance(query, Mapping):
        raise ConfigurationError(f"query must be a dict of strings, not {_type_name(query)}")
    for name, value in query.items():
        flaw = _query_flaw(name, value)
        if flaw is not None:
            raise ConfigurationError(flaw)
    return {str(name): _masked(value) if holds_key(name, value) else str(value) for name, value in query.items()}


def _masked(value: str) -> Secret:
    for form in {quote(value, safe=""), quote(value), quote_plus(value)}:
        Secret(form).mask()
    return Secret(value).mask()


def _query_flaw(name: object, value: object) -> str | None:
    if not isinstance(name, str) or not name:
        return "query: each name must be a string that is not empty, as in query={'api-version': '2024-10-21'}"
    if not isinstance(value, str):
        return f"query: the value of {name!r} must be a string, not {type(value).__name__}"
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        return f"query: {name!r} has characters that no address can hold (half a surrogate pair)"
    return None


def merged_headers(ours: Mapping[str, str], theirs: Mapping[str, str | None]) -> dict[str, str]:
    """Return our headers, with those of the user in place of ours of the same name, in upper or lower case.

    >>> merged_headers({"Accept": "a", "User-Agent": "b"}, {"accept": "c", "user-agent": None})
    {'accept': 'c'}
    """
    replaced = {name.lower() for name in theirs}
    kept = {name: value for name, value in ours.items() if name.lower() not in replaced}
    return kept | {name: value for name, value in theirs.items() if value is not None}


def _type_name(value: object) -> str:
    return "str" if isinstance(value, str) else type(value).__name__
