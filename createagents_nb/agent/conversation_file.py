"""A `Conversation` as a JSON file: written whole or not at all, read without believing a word of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..core.events import ToolCallRequested
from ..core.messages import Message, check_messages
from ..errors import TalkFileError
from .conversation import Conversation

__all__ = ["MAX_BYTES", "read_conversation", "write_conversation"]

FORMAT, VERSION = "createagents-nb talk", 1
MAX_BYTES = 64 * 1024 * 1024
"""Of a file that is read; and so of one that is written."""

_MAX_DEPTH = 50
_HALVES = re.compile("[\ud800-\udfff]")
_ROLES = ("user", "assistant", "tool")
_STATUSES = ("ok", "cancelled", "error", "limit")

T = TypeVar("T")


def write_conversation(path: str | os.PathLike[str], talk: Conversation) -> Path:
    """Write ``talk``; a file that is there stays whole until the new one is. Only its owner may read a new one.

    Raises:
        TalkFileError: it cannot be written there, or is too large to be read again.
    """
    try:
        data = _encoded(talk)
        given = Path(path).expanduser()
        _replace(Path(os.path.realpath(given)), data)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TalkFileError(
            f"The talk cannot be saved to {str(path)!r}: {reason}. Give a file in a folder that exists and that "
            "you may write to"
        ) from error
    return given


def read_conversation(path: str | os.PathLike[str]) -> Conversation:
    """The talk in a file, every part of it checked.

    Raises:
        TalkFileError: there is none, or it is broken; the message says where.
    """
    try:
        return _decoded(_bytes(Path(path).expanduser()))
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:  # RuntimeError: also recursion
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise TalkFileError(f"{str(path)!r} cannot be loaded as a talk: {reason}") from error


# Writing


def _encoded(talk: Conversation) -> bytes:
    settings = {
        field.name: getattr(talk, field.name) for field in dataclasses.fields(talk) if field.name != "turns"
    }
    kept = {name: value for name, value in settings.items() if value is not None and value != ()}
    turns = [{"messages": [_message(message) for message in messages]} for messages in talk.turns]
    whole = {"format": FORMAT, "version": VERSION, **kept, "turns": turns}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1)
    # UTF-8 has no half of a surrogate pair, which a model or a file's name may hold; JSON has.
    data = _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, and no more than {MAX_BYTES:,} are read again")
    return data


def _message(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        entry["tool_calls"] = [
            {"id": call.tool_call_id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    optional = {"tool_call_id": message.tool_call_id, "name": message.name}
    entry |= {key: value for key, value in optional.items() if value is not None}
    return entry if message.status == "ok" else entry | {"status": message.status}


def _replace(file: Path, data: bytes) -> None:
    mode = file.stat().st_mode if file.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError("it is not a file but a folder, pipe or device")
    handle, name = tempfile.mkstemp(prefix=".talk-", dir=file.parent)
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
        if mode is not None:
            written.chmod(stat.S_IMODE(mode))
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


# Reading


def _bytes(file: Path) -> bytes:
    # Without waiting: it may be a pipe to which nobody writes.
    with open(
        file, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    ) as opened:
        info = os.fstat(opened.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is not a file but a folder, pipe or device")
        # Of a file that grows meanwhile, too.
        data = opened.read(MAX_BYTES + 1) if info.st_size <= MAX_BYTES else b""
    if max(len(data), info.st_size) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return data


def _decoded(data: bytes) -> Conversation:
    try:
        whole = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON ({error})") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f'it has no "format": "{FORMAT}"')
    version = whole.get("version")
    if type(version) is int and version > VERSION:
        raise ValueError(
            f"it has version {version}, and this package reads {VERSION}: pip install -U createagents-nb"
        )
    if type(version) is not int or version != VERSION:
        raise ValueError(f"version must be {VERSION}, not {_short(version)}")
    return _talk(whole)


def _talk(whole: dict[str, Any]) -> Conversation:
    size = _of(whole.get("history_max_size", 20), int, "history_max_size")
    if size < 0:
        raise ValueError(f"history_max_size must be 0 or more, not {_short(size)}")
    config = _of(whole.get("config", {}), dict, "config")
    _check_depth(config)
    turns = _of(whole.get("turns"), list, "turns")
    return Conversation(
        provider=_word(whole.get("provider"), "provider"),
        model=_word(whole.get("model"), "model"),
        name=_word(whole.get("name"), "name"),
        instructions=_optional(whole.get("instructions"), "instructions"),
        config=config,
        history_max_size=size,
        base_url=_optional(whole.get("base_url"), "base_url"),
        tools=_words(whole, "tools"),
        own_tools=_words(whole, "own_tools"),
        masked=_words(whole, "masked"),
        turns=tuple(_turn(entry, f"turns[{number}]") for number, entry in enumerate(turns)),
    )


def _turn(entry: Any, where: str) -> tuple[Message, ...]:
    listed = _of(_of(entry, dict, where).get("messages"), list, f"{where}.messages")
    messages = tuple(_read_message(part, f"{where}.messages[{at}]") for at, part in enumerate(listed))
    try:
        check_messages(messages)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return messages


def _read_message(entry: Any, where: str) -> Message:
    entry = _of(entry, dict, where)
    calls = _of(entry.get("tool_calls", []), list, f"{where}.tool_calls")
    return Message(
        role=_one_of(entry.get("role"), _ROLES, f"{where}.role"),
        content=_of(entry.get("content"), str, f"{where}.content"),
        tool_calls=tuple(_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)),
        tool_call_id=_optional(entry.get("tool_call_id"), f"{where}.tool_call_id"),
        name=_optional(entry.get("name"), f"{where}.name"),
        status=_one_of(entry.get("status", "ok"), _STATUSES, f"{where}.status"),
    )


def _call(entry: Any, where: str) -> ToolCallRequested:
    entry = _of(entry, dict, where)
    return ToolCallRequested(
        _word(entry.get("id"), f"{where}.id"),
        _of(entry.get("name"), str, f"{where}.name"),
        _of(entry.get("arguments"), str, f"{where}.arguments"),
    )


def _of(value: Any, kind: type[T], where: str) -> T:
    if type(value) is not kind:  # True is an int, too
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {_short(value)}")
    return value


_KINDS: dict[type, str] = {dict: "an object", int: "a whole number", list: "a list", str: "a string"}


def _word(value: Any, where: str) -> str:
    if not (isinstance(value, str) and value.strip()):
        raise ValueError(f"{where} must be a string that is not empty, not {_short(value)}")
    return value


def _words(whole: dict[str, Any], where: str) -> tuple[str, ...]:
    words = tuple(_word(value, where) for value in _of(whole.get(where, []), list, where))
    if len(set(words)) < len(words):
        raise ValueError(f"{where} has a name twice")
    return words


def _optional(value: Any, where: str) -> str | None:
    return None if value is None else _of(value, str, where)


def _one_of(value: Any, choices: tuple[str, ...], where: str) -> Any:
    if value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(choices)}, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_short(twice)} stands there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_short(text)} is too large")
    return number


def _check_depth(config: dict[str, Any]) -> None:
    """Settings are copied part by part, and what is nested a thousand times cannot be."""
    level: list[Any] = [config]
    for _ in range(_MAX_DEPTH):
        parts = [part for part in level if isinstance(part, dict | list)]
        level = [inner for part in parts for inner in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return
    raise ValueError("config is nested too deeply")
