"""What servers refuse: a field that a refusal names is left out of the next request, or sent under its other name.

What was accepted in its place is remembered for each server and model until the process ends.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.events import ProviderDetails
from ..core.messages import Message, without_details
from .servers import SERVERS
from .wire_format import shorten_ids

__all__ = [
    "STATUSES",
    "Change",
    "RefusedDetails",
    "apply_changes",
    "find_changes",
    "is_named",
    "learned",
    "refuses_details",
    "remember",
    "reset",
]

STATUSES = frozenset({400, 422})
"""Statuses with which servers refuse a field."""

_LOCATIONS = frozenset({"field", "fields", "keys", "loc", "param", "path", "property"})
"""Keys of error bodies that locate the field."""

_REPEATED = frozenset({"ctx", "input", "url"})
"""Keys of pydantic's errors with what was sent, and where to read about it."""

_REFUSES = re.compile(
    r"(?i)un(?:supported|recogni[sz]ed|known|expected)|n[o']t support|not (?:permitted|allowed|accepted|available)"
    r"|forbidden|cannot find|additional propert|deprecated|instead"
)

_IS_ABOUT_VALUE = re.compile(
    r"(?i)\bless\b|\b(?:great|larg|small|high|low)er\b|\btoo (?:big|large|small|high|low|long|many)\b"
    r"|\bat (?:most|least)\b|\bexceed|\b(?:max|min)imum\b|\bbetween\b|\brange\b|unsupported value"
)
"""A refusal of a value, not of its field."""

_LACKS_REASONING = re.compile(r"(?i)reasoning_content\W.{0,100}?\b(?:must|missing|required|passed? back|provide)")

_REFUSES_IDS = re.compile(r"(?i)\b(?:tool[_ ]?call|call)[_ ]?id\b.{0,120}?\b(?:must|invalid|length|match|long)")

_DETAILS = re.compile(
    r"(?i)invalid_encrypted_content"
    r"|encrypted[_ ]content\W.{0,120}?\b(?:could not|cannot|can't|invalid|mismatch|not match)"
    r"|item_id did not match|of type '\w+' was provided without its required|item with id .{0,80}? not found"
    r"|(?:thinking|thought)[_ ]?signature\W.{0,80}?\b(?:invalid|corrupt|could not|cannot)"
    r"|invalid .{0,30}?(?:thinking|thought)[_ ]?signature|invalid `?signature`? in "
)

_LACKS_SIGNATURE = re.compile(r"(?i)missing\b.{0,30}?thought[_ ]?signature|thought[_ ]?signature\W.{0,30}?missing")

_MAX_LEARNED = 1_000
"""Limit for the servers and models to remember."""

_MAX_REFUSED = 10_000
"""Limit for the provider details to remember as refused."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a request's body.

    Attributes:
        field: a path, as in ``stream_options`` or ``messages[].reasoning_content``; ``[]`` stands for each item.
        name: the field's other name; None to leave it out.
        value: set where assistant messages, or the first of their calls, lack the field, in place of leaving it
            out.
    """

    field: str
    name: str | None = None
    value: Any = None

    def __str__(self) -> str:
        """The change in words, as in the column ``adjusted`` of ``recorder.requests``."""
        if self.value is not None:
            return f"with {self.field}"
        return f"without {self.field}" if self.name is None else f"{self.name} for {self.field}"


_BLANK_REASONING = Change("messages[].reasoning_content", value=" ")
_DUMMY_SIGNATURE = Change("messages[].tool_calls[].extra_content", value=SERVERS["gemini"].foreign_call_fields)
_SHORT_IDS = Change("ids of tool calls", "nine letters and digits")


def apply_changes(body: dict[str, Any], changes: Sequence[Change]) -> list[Change]:
    """Change a body in place, and return the changes that made a difference.

    Its messages and tools must be those of this request alone.
    """
    return [change for change in changes if _apply(change, body)]


def _apply(change: Change, body: dict[str, Any]) -> bool:
    if change == _SHORT_IDS:
        return shorten_ids(body)
    is_changed = False
    if change == _DUMMY_SIGNATURE:
        for message in body.get("messages", ()):
            if (calls := message.get("tool_calls")) and not any("extra_content" in call for call in calls):
                calls[0] |= change.value
                is_changed = True
        return is_changed
    *parents, leaf = change.field.replace("[]", "").split(".")
    for parent in _items(body, parents):
        if change.value is not None:
            if parent.get("role") == "assistant" and not parent.get(leaf):
                parent[leaf] = change.value
                is_changed = True
        elif leaf in parent:
            value = parent.pop(leaf)
            is_changed = True
            if leaf == "stream":
                parent.pop("stream_options", None)
            if change.name is not None:
                parent.setdefault(change.name, value)
    return is_changed


def find_changes(
    refusal: Any,
    body: Mapping[str, Any],
    *,
    optional: Collection[str],
    renames: Mapping[str, str],
    done: Sequence[Change],
) -> tuple[Change, ...]:
    """Return the changes that a refusal asks for; none if it names no field that may be changed.

    Args:
        refusal: the decoded body of the error.
        body: what was sent.
        optional: paths of fields that nobody asked for; they may be left out.
        renames: fields that have another name elsewhere.
        done: what was changed before; nothing is changed twice.
    """
    changed = {name for change in done for name in (change.field, change.name)}
    words = "\n".join(_sentences(refusal))
    for missing, asks_for in ((_BLANK_REASONING, _LACKS_REASONING), (_DUMMY_SIGNATURE, _LACKS_SIGNATURE)):
        if "messages" in body and missing not in done and asks_for.search(words):
            return (missing,)
    found = [
        Change(field)
        for field in optional
        if field not in changed and _is_sent(body, field) and is_named(field, refusal)
    ]
    for field, name in renames.items():
        is_open = field in body and changed.isdisjoint((field, name))
        if is_open and is_named(field, refusal) and _REFUSES.search(words) and not _IS_ABOUT_VALUE.search(words):
            found.append(Change(field, name))
    if not found and _SHORT_IDS not in done and _REFUSES_IDS.search(words):
        return (_SHORT_IDS,)
    return tuple(found)


def is_named(field: str, refusal: Any) -> bool:
    """Whether an error names a field: where it says which one is meant, else in its sentences."""
    *parents, leaf = field.replace("[]", "").split(".")
    for words in _locations(refusal):
        # Unions of models put their names into a path, as in body, ResponsesRequest, include.
        if leaf in words and (not parents or parents[0] in words) and words.index(leaf) < len(parents) + 2:
            return True
    sentences = "\n".join(_sentences(refusal))
    if leaf == "include" and "ncrypted content is not supported" in sentences:  # OpenAI's words for `include`
        return True
    if "_" in leaf:
        return re.search(rf"(?<!\w){leaf}(?!\w)", "\n".join((sentences, *_keys(refusal)))) is not None
    # A name that is also a word counts only in quotes, or where a name stands.
    naming = (
        rf"[`'\"]{leaf}[`'\"]|(?<!\w){leaf}: |\({leaf}\)|\$\.{leaf}\b|^{leaf}$"
        rf"|(?:parameter|argument|field|property|key)s?(?: supplied)?:? *{leaf}(?!\w)"
        rf"|(?:permitted|allowed|supported|unknown|unexpected|unrecogni[sz]ed): *{leaf}(?!\w)"
        rf"|(?<!\w){leaf} (?:(?:is|are) )?(?:n[o']t (?:supported|allowed|permitted|available)|unsupported)"
    )
    return re.search(f"(?im){naming}", sentences) is not None


def refuses_details(refusal: Any) -> bool:
    """Whether an error refuses the opaque fields of an earlier reply, such as encrypted reasoning."""
    return _DETAILS.search(json.dumps(refusal, ensure_ascii=False, default=str)) is not None


class RefusedDetails:
    """Provider details that their server did not take back."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}

    def add(self, messages: Iterable[Message]) -> None:
        """Leave all provider details in ``messages`` out from now on."""
        for message in messages:
            for details in (message.provider_details, *(call.provider_details for call in message.tool_calls)):
                if details is not None and len(self._digests) < _MAX_REFUSED:
                    self._digests[_digest(details)] = None

    def taken_out_of(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return the messages without the details that were refused."""
        if not self._digests:
            return messages
        return without_details(messages, lambda details: _digest(details) in self._digests)


def _digest(details: ProviderDetails) -> bytes:
    return hashlib.sha256(json.dumps(details.fields, sort_keys=True, default=str).encode()).digest()


def _sentences(refusal: Any) -> Iterator[str]:
    """Yield the texts in an error body, but for what it repeats of the request."""
    if isinstance(refusal, str):
        yield refusal
    elif isinstance(refusal, Mapping):
        for key, value in refusal.items():
            if key not in _REPEATED:
                yield from _sentences(value)
    elif isinstance(refusal, list):
        for item in refusal:
            yield from _sentences(item)


def _keys(refusal: Any) -> Iterator[str]:
    """Yield the keys in an error body: they may name fields, as in ``{"errors": {"stream_options": …}}``."""
    if isinstance(refusal, Mapping):
        for key, value in refusal.items():
            if key not in _REPEATED:
                yield key
                yield from _keys(value)
    elif isinstance(refusal, list):
        for item in refusal:
            yield from _keys(item)


def _locations(refusal: Any) -> Iterator[list[str]]:
    """The paths in an error body, each as its words: without indexes, and without ``body`` at their beginning."""
    if isinstance(refusal, list):
        for item in refusal:
            yield from _locations(item)
    elif isinstance(refusal, Mapping):
        for key, value in refusal.items():
            if key in _LOCATIONS and isinstance(value, str | list):
                path = value if isinstance(value, str) else ".".join(map(str, value))
                words = [word for word in re.split(r"[.\[\]/ ,]+", path) if word and not word.isdecimal()]
                yield words[1:] if words[:1] == ["body"] else words
            else:
                yield from _locations(value)


def _items(body: Mapping[str, Any], path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The dicts at a path."""
    value: Any = body
    for index, name in enumerate(path):
        value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            for item in value:
                if isinstance(item, Mapping):
                    yield from _items(item, path[index + 1 :])
            return
    if isinstance(value, dict):
        yield value


def _is_sent(body: Mapping[str, Any], field: str) -> bool:
    *parents, leaf = field.replace("[]", "").split(".")
    return any(leaf in parent for parent in _items(body, parents))


_learned: dict[tuple[str, str, str], tuple[Change, ...]] = {}
"""Changes by server, model and API."""


def reset() -> None:
    """Forget what was learned."""
    _learned.clear()


def learned(server: str, model: str, api: str) -> tuple[Change, ...]:
    """The changes that a server accepted before."""
    return _learned.get((server, model, api), ())


def remember(server: str, model: str, api: str, changes: tuple[Change, ...]) -> None:
    """Use these changes from now on."""
    if len(_learned) >= _MAX_LEARNED:
        _learned.pop(next(iter(_learned)))
    _learned[server, model, api] = changes
