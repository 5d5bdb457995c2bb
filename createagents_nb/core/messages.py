"""Messages, their parts, and the rules that every provider expects the messages of a turn to follow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from .events import ProviderDetails, ReplySource, ToolCallRequested
from .media import describe_media, is_media_type
from .records import CallStatus

__all__ = [
    "FilePart",
    "ImagePart",
    "Message",
    "MessageContent",
    "Part",
    "Role",
    "TextPart",
    "Turn",
    "check_messages",
    "decode_arguments",
    "has_details",
    "read_parts",
    "without_details",
    "without_foreign_details",
]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text in a message.

    Raises:
        ValueError: it is not a string.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ValueError(f"TextPart takes a string, not {type(self.text).__name__}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, repr=False)
class _Media:
    """Bytes or an address; see the subclasses."""

    data: bytes | None = field(default=None, repr=False)
    media_type: str = ""
    url: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.url, str) and self.url[:5].lower() == "data:":
            self._take_data_url(self.url)
        if (self.data is None) == (self.url is None):
            raise ValueError(f"{type(self).__name__} takes either data or url")
        if self.data is not None and not isinstance(self.data, bytes):
            raise ValueError(f"{type(self).__name__}(data=…) takes bytes, not {type(self.data).__name__}")
        for name in ("media_type", "url", "name"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{type(self).__name__}({name}=…) takes a string, not {type(value).__name__}")
        if (self.data is not None or self.media_type) and not is_media_type(self.media_type):
            kind = type(self).__name__
            raise ValueError(f"{kind} needs a media type such as image/png, not {self.media_type[:100]!r}")

    def __str__(self) -> str:
        """A description, shown in place of the data, as in ``<image/png, 640 × 480, 24 kB>``."""
        if self.url is not None:
            return f"<{self.media_type or 'file'} at {_without_secrets(self.url)}>"
        return describe_media(self.media_type, self.data, self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def _take_data_url(self, url: str) -> None:
        """Replace a data URL (RFC 2397) in base64 by its data and media type."""
        head, comma, content = url[5:].partition(",")
        media_type, _, encoding = head.rpartition(";")
        try:
            if not comma or encoding.strip().lower() != "base64":
                raise ValueError("not in base64")
            data = base64.b64decode(content, validate=True)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}(url=…) has a broken data URL ({error})") from None
        for name, value in (("data", data), ("media_type", self.media_type or media_type), ("url", None)):
            object.__setattr__(self, name, value)


def _without_secrets(url: str) -> str:
    """A URL without what may open the file: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


@dataclass(frozen=True, slots=True, repr=False)
class ImagePart(_Media):
    """An image in a message.

    Attributes:
        data: the file, or None for an image that the server fetches.
        media_type: such as ``image/png``; required with ``data``.
        url: the address that the server fetches, in place of ``data``.
        name: the file's name, where it has one.

    Raises:
        ValueError: neither or both of ``data`` and ``url``, or ``data`` without a media type.

    Example:
        >>> str(ImagePart(b"…".ljust(2_000), "image/png"))
        '<image/png, 2 kB>'
    """


@dataclass(frozen=True, slots=True, repr=False)
class FilePart(_Media):
    """A document in a message, such as a PDF; attributes and errors as those of `ImagePart`."""


Part: TypeAlias = TextPart | ImagePart | FilePart
MessageContent: TypeAlias = "str | Part | Sequence[str | Part]"
"""The content of a message: text, a part, or several of both."""


def read_parts(content: MessageContent) -> tuple[Part, ...]:
    """The parts of a message's content; an empty string has none.

    Raises:
        TypeError: something in it is neither text nor a part; the message names its type.
    """
    if isinstance(content, str):
        # NumPy's strings are not JSON.
        return (TextPart(str.__str__(content)),) if content else ()
    if isinstance(content, TextPart | ImagePart | FilePart):
        return (content,)
    if not isinstance(content, list | tuple):
        raise TypeError(type(content).__name__)
    parts: list[Part] = []
    for item in content:
        if not isinstance(item, str | TextPart | ImagePart | FilePart):
            raise TypeError(f"{type(content).__name__} with {type(item).__name__} in it")
        parts += read_parts(item)
    return tuple(parts)


# Without slots: a frozen class with slots raises TypeError for properties (python/cpython#105936).
@dataclass(frozen=True, init=False, repr=False)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        parts: text, images and files, in order.
        tool_calls: what an assistant message asks for.
        tool_call_id: which call a tool message answers.
        name: the tool that answered.
        status: ``cancelled``, ``error`` or ``limit`` on the last message of a turn that did not end well.
        provider_details: opaque fields that the server which wrote this message wants back.
        left_out: True for messages of a turn that the server refused: they are shown, and not sent again.

    Example:
        >>> Message("user", "Hello").content
        'Hello'
    """

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCallRequested, ...]
    tool_call_id: str | None
    name: str | None
    status: CallStatus
    provider_details: ProviderDetails | None
    left_out: bool

    def __init__(
        self,
        role: Role,
        content: MessageContent | None = None,
        tool_calls: tuple[ToolCallRequested, ...] = (),
        tool_call_id: str | None = None,
        name: str | None = None,
        status: CallStatus = "ok",
        provider_details: ProviderDetails | None = None,
        *,
        parts: tuple[Part, ...] = (),
        left_out: bool = False,
    ) -> None:
        set_field = object.__setattr__  # it is frozen
        set_field(self, "role", role)
        set_field(self, "parts", parts if content is None else read_parts(content))
        set_field(self, "tool_calls", tool_calls)
        set_field(self, "tool_call_id", tool_call_id)
        set_field(self, "name", name)
        set_field(self, "status", status)
        set_field(self, "provider_details", provider_details)
        set_field(self, "left_out", left_out)

    @property
    def text(self) -> str:
        """The text parts, one below the other."""
        parts = self.parts
        if len(parts) == 1 and isinstance(parts[0], TextPart):
            return parts[0].text
        return "\n".join(part.text for part in parts if isinstance(part, TextPart))

    @property
    def content(self) -> str:
        """The same as `text`."""
        return self.text

    @property
    def description(self) -> str:
        """All parts as text, with a description of each image and file in place of its data."""
        return "\n".join(map(str, self.parts))

    @property
    def is_blank(self) -> bool:
        """Whether it has no text, image or file; servers refuse such a message."""
        return all(isinstance(part, TextPart) and not part.text.strip() for part in self.parts)

    def __repr__(self) -> str:
        is_text = all(isinstance(part, TextPart) for part in self.parts)
        shown = [repr(self.role), repr(self.text) if is_text else f"parts={self.parts!r}"]
        for name, default in (("tool_calls", ()), ("tool_call_id", None), ("name", None), ("status", "ok")):
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)!r}")
        if self.left_out:
            shown.append("left_out=True")
        return f"Message({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Turn:
    """The messages of one turn; ``number`` counts the turns of an agent in the order in which they started."""

    number: int
    messages: tuple[Message, ...]

    @property
    def is_sent(self) -> bool:
        """Whether later requests have it; False for a turn that the server refused."""
        return not any(message.left_out for message in self.messages)

    def as_left_out(self) -> Turn:
        """Return the turn with its messages marked as not sent again."""
        return Turn(self.number, tuple(replace(message, left_out=True) for message in self.messages))

    def without_tools(self) -> Turn:
        """Return the turn with only its question and its final answer."""
        return Turn(self.number, (self.messages[0], *self.messages[1:][-1:]))


def check_messages(messages: Sequence[Message]) -> None:
    """Check what every provider expects of the messages of one turn.

    A user message, then rounds of tools (an assistant message with calls, directly followed by one answer for
    each call), then the assistant's answer; none of them empty.

    Raises:
        ValueError: which message, counted from 0, breaks which rule.
    """
    waiting: list[str | None] = []
    is_answered = False
    for at, message in enumerate(messages):
        if is_answered:
            raise ValueError(f"messages[{at}] comes after the answer that ends the turn")
        if (message.role == "user") != (at == 0) or message.role == "system":
            raise ValueError(f"messages[{at}] is of {message.role!r}: a turn has one user's message, its first")
        if message.is_blank and not message.tool_calls:
            raise ValueError(f"messages[{at}] is empty")
        if message.tool_calls and message.role != "assistant":
            raise ValueError(f"messages[{at}] is of {message.role!r} and asks for tools")
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise ValueError(f"messages[{at}] answers {message.tool_call_id!r}, which was not asked for")
            waiting.remove(message.tool_call_id)
        elif waiting:
            raise ValueError(f"messages[{at}] comes before the answer to {waiting[0]!r}")
        elif message.role == "assistant":
            waiting = [call.tool_call_id for call in message.tool_calls]
            if len(set(waiting)) < len(waiting):
                raise ValueError(f"messages[{at}] has two calls of one id")
            is_answered = not waiting
    if not is_answered:
        raise ValueError(f"it ends after {len(messages)} messages without an answer")


def has_details(message: Message) -> bool:
    """Whether a message or one of its tool calls has provider details."""
    calls = message.tool_calls
    return message.provider_details is not None or any(call.provider_details is not None for call in calls)


def without_foreign_details(messages: Iterable[Message], sources: Collection[ReplySource]) -> tuple[Message, ...]:
    """The messages without the provider details that none of ``sources`` wrote; nothing else may be sent."""
    return without_details(messages, lambda details: details.source not in sources)


def without_details(
    messages: Iterable[Message], is_dropped: Callable[[ProviderDetails], bool]
) -> tuple[Message, ...]:
    """The messages without the provider details for which ``is_dropped`` returns True."""

    def kept(details: ProviderDetails | None) -> ProviderDetails | None:
        return None if details is None or is_dropped(details) else details

    cleaned: list[Message] = []
    for message in messages:
        calls = message.tool_calls
        if any(kept(call.provider_details) is not call.provider_details for call in calls):
            calls = tuple(replace(call, provider_details=kept(call.provider_details)) for call in calls)
        details = kept(message.provider_details)
        if details is not message.provider_details or calls is not message.tool_calls:
            message = replace(message, tool_calls=calls, provider_details=details)
        cleaned.append(message)
    return tuple(cleaned)


def decode_arguments(arguments: Mapping[str, Any] | str) -> dict[str, Any]:
    """The arguments of a tool call as a dict.

    Raises:
        ValueError: not JSON, or not an object.
    """
    value: Any = arguments
    for _ in range(2):  # some servers encode them twice
        if isinstance(value, str):
            try:
                value = json.loads(value, strict=False) if value.strip() else {}
            except (ValueError, RecursionError) as error:
                raise ValueError(f"not valid JSON ({error})") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return dict(value)
