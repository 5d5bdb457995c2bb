"""A `Conversation` as a JSON file: written completely or not at all, and checked in every part when it is read."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from ..core.events import ProviderDetails, ReplySource, ToolCallRequested
from ..core.messages import FilePart, ImagePart, Message, Part, TextPart, check_messages, read_parts
from ..errors import TalkFileError
from .conversation import Conversation
from .settings import MAX_SAVED_SECONDS, SETTINGS, AgentSettings, Kind

__all__ = ["MAX_BYTES", "read_conversation", "write_conversation"]

FORMAT, VERSION = "createagents-nb talk", 1
MAX_BYTES = 64 * 1024 * 1024
"""Limit for a file that is read, and so for one that is written."""

_MAX_DEPTH = 50
"""Limit for the nesting of ``config`` and of provider details."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_ROLES = ("user", "assistant", "tool")
_STATUSES = ("ok", "cancelled", "error", "limit")

T = TypeVar("T")


def write_conversation(path: str | os.PathLike[str], talk: Conversation) -> Path:
    """Write ``talk``, in place of an existing file once it is complete. Only its owner may read a new file.

    Raises:
        TalkFileError: it cannot be written there, or is too large to be read again.
    """
    try:
        data = _encode(talk)
        _decode(data)  # what cannot be read again is not written over what can
        given = Path(path).expanduser()
        _replace_file(Path(os.path.realpath(given)), data)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TalkFileError(
            f"The talk cannot be saved to {str(path)!r}: {reason}. Give a file in a folder that exists and that "
            "you may write to"
        ) from error
    return given


def read_conversation(path: str | os.PathLike[str]) -> Conversation:
    """Read a file and check every part of it.

    Raises:
        TalkFileError: there is no such file, or it is broken; the message says where.
    """
    try:
        return _decode(_read_bytes(Path(path).expanduser()))
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:  # RuntimeError: also recursion
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise TalkFileError(f"{str(path)!r} cannot be loaded as a talk: {reason}") from error


# Writing


def _encode(talk: Conversation) -> bytes:
    media = [part for turn in talk.turns for message in turn for part in message.parts]
    size = sum(len(part.data or b"") for part in media if not isinstance(part, TextPart)) * 4 // 3
    if size > MAX_BYTES:  # known before it is encoded
        raise _too_large(size)
    entries = {**talk.settings, "own_tools": talk.own_tools, "masked": talk.masked}
    content = {
        "format": FORMAT,
        "version": VERSION,
        **{name: value for name, value in entries.items() if not (isinstance(value, list | tuple) and not value)},
        "turns": [_encode_turn(messages) for messages in talk.turns],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    # Half a surrogate pair, as in some answers and file names, is valid in JSON but not in UTF-8.
    data = _SURROGATES.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()
    if len(data) > MAX_BYTES:
        raise _too_large(len(data))
    return data


def _too_large(size: int) -> ValueError:
    return ValueError(f"it has {size:,} bytes, and no more than {MAX_BYTES:,} are read again")


def _encode_turn(messages: Sequence[Message]) -> dict[str, Any]:
    turn: dict[str, Any] = {"messages": [_encode_message(message) for message in messages]}
    return turn | {"left_out": True} if any(message.left_out for message in messages) else turn


def _encode_message(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role}
    if read_parts(message.content) == message.parts:
        entry["content"] = message.content
    else:
        # Without `content`, so that older versions, which know only text, refuse it.
        entry["parts"] = [_encode_part(part) for part in message.parts]
    if message.tool_calls:
        entry["tool_calls"] = [
            {"id": call.tool_call_id, "name": call.name, "arguments": call.arguments}
            | _encode_details(call.provider_details)
            for call in message.tool_calls
        ]
    optional = {"tool_call_id": message.tool_call_id, "name": message.name}
    entry |= {key: value for key, value in optional.items() if value is not None}
    entry |= _encode_details(message.provider_details)
    return entry if message.status == "ok" else entry | {"status": message.status}


def _encode_part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    form = {
        "type": "image" if isinstance(part, ImagePart) else "file",
        "media_type": part.media_type or None,
        "name": part.name,
        "url": part.url,
        "data": None if part.data is None else base64.b64encode(part.data).decode("ascii"),
    }
    return {key: value for key, value in form.items() if value is not None}


def _encode_details(details: ProviderDetails | None) -> dict[str, Any]:
    if details is None:
        return {}
    source = details.source
    try:
        _check_depth(details.fields, "details")
        json.dumps(details.fields, allow_nan=False)
    except (TypeError, ValueError):
        return {}  # the conversation goes on without them, and no file can hold them
    return {
        "provider_details": {
            "source": {
                "server": source.server,
                "model": source.model,
                "key_fingerprint": source.key_fingerprint,
            },
            "fields": details.fields,
        }
    }


def _replace_file(file: Path, data: bytes) -> None:
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


def _read_bytes(file: Path) -> bytes:
    # Without waiting: it may be a pipe without a writer.
    with open(
        file, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    ) as opened:
        info = os.fstat(opened.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is not a file but a folder, pipe or device")
        # The file may grow meanwhile.
        data = opened.read(MAX_BYTES + 1) if info.st_size <= MAX_BYTES else b""
    if max(len(data), info.st_size) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return data


def _decode(data: bytes) -> Conversation:
    try:
        content = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'it has no "format": "{FORMAT}"')
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise ValueError(
            f"it has version {version}, and this package reads {VERSION}: pip install -U createagents-nb"
        )
    if type(version) is not int or version != VERSION:
        raise ValueError(f"version must be {VERSION}, not {_excerpt(version)}")
    return _read_settings_and_turns(content)


def _read_settings_and_turns(content: dict[str, Any]) -> Conversation:
    turns = _expect(content.get("turns"), list, "turns")
    settings: dict[str, Any] = {}
    for setting in fields(AgentSettings):
        name, use = setting.name, SETTINGS[setting.name]
        is_required = setting.default is MISSING and setting.default_factory is MISSING
        if use.saved and (name in content or is_required):
            value = _READERS[use.kind](content.get(name), name)
            if value is not None:
                settings[name] = value
    return Conversation(
        settings,
        own_tools=_read_names(content.get("own_tools", []), "own_tools"),
        masked=_read_names(content.get("masked", []), "masked"),
        turns=tuple(_read_turn(entry, f"turns[{number}]") for number, entry in enumerate(turns)),
    )


def _read_turn(entry: Any, where: str) -> tuple[Message, ...]:
    listed = _expect(_expect(entry, dict, where).get("messages"), list, f"{where}.messages")
    messages = tuple(_read_message(part, f"{where}.messages[{at}]") for at, part in enumerate(listed))
    try:
        check_messages(messages)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if _expect(entry.get("left_out", False), bool, f"{where}.left_out"):
        messages = tuple(replace(message, left_out=True) for message in messages)
    return messages


def _read_message(entry: Any, where: str) -> Message:
    entry = _expect(entry, dict, where)
    calls = _expect(entry.get("tool_calls", []), list, f"{where}.tool_calls")
    return Message(
        role=_read_choice(entry.get("role"), _ROLES, f"{where}.role"),
        parts=_read_content(entry, where),
        tool_calls=tuple(_read_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)),
        tool_call_id=_read_optional(entry.get("tool_call_id"), f"{where}.tool_call_id"),
        name=_read_optional(entry.get("name"), f"{where}.name"),
        status=_read_choice(entry.get("status", "ok"), _STATUSES, f"{where}.status"),
        provider_details=_read_details(entry.get("provider_details"), f"{where}.provider_details"),
    )


def _read_content(entry: dict[str, Any], where: str) -> tuple[Part, ...]:
    if "parts" not in entry:
        return read_parts(_expect(entry.get("content"), str, f"{where}.content"))
    if "content" in entry:
        raise ValueError(f"{where} has both content and parts")
    parts = _expect(entry["parts"], list, f"{where}.parts")
    return tuple(_read_part(part, f"{where}.parts[{at}]") for at, part in enumerate(parts))


def _read_part(entry: Any, where: str) -> Part:
    entry = _expect(entry, dict, where)
    kind = _read_choice(entry.get("type"), ("text", *_MEDIA), f"{where}.type")
    if kind == "text":
        return TextPart(_expect(entry.get("text"), str, f"{where}.text"))
    media_type = _expect(entry.get("media_type", ""), str, f"{where}.media_type")
    data = _read_optional(entry.get("data"), f"{where}.data")
    url = _read_optional(entry.get("url"), f"{where}.url")
    if url is not None and urlsplit(url).scheme not in ("http", "https"):  # the server would fetch it
        raise ValueError(f"{where}.url must begin with http:// or https://")
    try:
        return _MEDIA[kind](
            None if data is None else base64.b64decode(data, validate=True),
            media_type,
            url=url,
            name=_read_optional(entry.get("name"), f"{where}.name"),
        )
    except binascii.Error:
        raise ValueError(f"{where}.data is not valid base64") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


_MEDIA: Mapping[str, type[ImagePart | FilePart]] = {"image": ImagePart, "file": FilePart}


def _read_call(entry: Any, where: str) -> ToolCallRequested:
    entry = _expect(entry, dict, where)
    return ToolCallRequested(
        _read_name(entry.get("id"), f"{where}.id"),
        _expect(entry.get("name"), str, f"{where}.name"),
        _expect(entry.get("arguments"), str, f"{where}.arguments"),
        _read_details(entry.get("provider_details"), f"{where}.provider_details"),
    )


def _read_details(entry: Any, where: str) -> ProviderDetails | None:
    if entry is None:
        return None
    entry = _expect(entry, dict, where)
    source = _expect(entry.get("source"), dict, f"{where}.source")
    details = _expect(entry.get("fields"), dict, f"{where}.fields")
    _check_depth(details, f"{where}.fields")
    return ProviderDetails(
        ReplySource(
            _expect(source.get("server"), str, f"{where}.source.server"),
            _expect(source.get("model"), str, f"{where}.source.model"),
            _expect(source.get("key_fingerprint", ""), str, f"{where}.source.key_fingerprint"),
        ),
        details,
    )


def _expect(value: Any, kind: type[T], where: str) -> T:
    if type(value) is not kind:  # True is an int, too
        raise ValueError(f"{where} must be {_JSON_TYPES[kind]}, not {_excerpt(value)}")
    return value


_JSON_TYPES: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "a string",
}


def _read_name(value: Any, where: str) -> str:
    if not (isinstance(value, str) and value.strip()):
        raise ValueError(f"{where} must be a string that is not empty, not {_excerpt(value)}")
    return value


def _read_names(value: Any, where: str) -> tuple[str, ...]:
    words = tuple(_read_name(part, where) for part in _expect(value, list, where))
    if len(set(words)) < len(words):
        raise ValueError(f"{where} has a name twice")
    return words


def _read_count(value: Any, where: str) -> int:
    if _expect(value, int, where) < 0:
        raise ValueError(f"{where} must be 0 or more, not {_excerpt(value)}")
    return int(value)


def _read_seconds(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= MAX_SAVED_SECONDS:
        raise ValueError(f"{where} must be a number of seconds above 0, not {_excerpt(value)}")
    return value  # type: ignore[no-any-return]


def _read_config(value: Any, where: str) -> dict[str, Any]:
    config = _expect(value, dict, where)
    _check_depth(config, where)
    return config


def _read_optional(value: Any, where: str) -> str | None:
    return None if value is None else _expect(value, str, where)


def _read_choice(value: Any, choices: tuple[str, ...], where: str) -> Any:
    if value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(choices)}, not {_excerpt(value)}")
    return value


def _excerpt(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {_excerpt(twice)} stands there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_excerpt(text)} is too large")
    return number


def _check_depth(value: Any, where: str) -> None:
    """Refuse a value that is nested too deeply to be copied recursively."""
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        parts = [part for part in level if isinstance(part, Mapping | list | tuple)]
        level = [inner for part in parts for inner in (part.values() if isinstance(part, Mapping) else part)]
        if not level:
            return
    raise ValueError(f"{where} is nested too deeply")


_READERS: Mapping[Kind, Callable[[Any, str], Any]] = {
    "address": _read_optional,
    "choice": _read_name,
    "config": _read_config,
    "count": _read_count,
    "flag": lambda value, where: _expect(value, bool, where),
    "name": _read_name,
    "seconds": _read_seconds,
    "text": _read_optional,
    "tools": _read_names,
}
"""Readers of settings by kind; settings that are objects are not saved."""
