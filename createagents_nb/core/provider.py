"""The one seam: the request to a provider, the interface it implements, and the hooks for wrappers."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from ..redaction import Secret
from .events import Event, ReplySource, ToolCallFinished, ToolCallRequested
from .messages import ImagePart, Message, MessageContent, Part, TextPart
from .preview import RequestPreview, describe_message, mask_json

__all__ = [
    "ChatRepository",
    "ChatRequest",
    "Emit",
    "StartsTurns",
    "ToolCallRunner",
    "ToolSpec",
    "TurnResponse",
    "describe_tools",
]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """The description of a tool for a model.

    Attributes:
        name: unique within a request.
        description: for the model.
        parameters: JSON Schema of the arguments, an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ChatRequest:
    """One request to a model, provider-neutral. Two requests are equal if they ask the same.

    Attributes:
        model: the model's name as the provider knows it.
        messages: the whole conversation, instructions first.
        tools: what the model may ask for.
        config: validated options, see `createagents_nb.create_agent.CreateAgent`.
        output_schema: JSON Schema that the answer must follow, None for free text.
        tool_choice: ``"auto"``, ``"required"``, ``"none"`` or a tool's name; None for the server's default.
        turn_id: the ``call_id`` of the turn; ignored by comparisons.
        round: the round of the turn, from 1; ignored by comparisons.

    Example:
        >>> ChatRequest("m", [Message("user", "Hello")]) == ChatRequest("m", [Message("user", "Hello")], round=2)
        True
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    tool_choice: str | None = None
    turn_id: str | None = None
    round: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(self.messages))
        object.__setattr__(self, "tools", tuple(self.tools))
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))

    def described(self) -> dict[str, Any]:
        """The request as JSON values for people to read: media described, without provider details.

        Keys are as they are; `createagents_nb.core.preview.mask_json` masks them.
        """
        described: dict[str, Any] = {
            "model": self.model,
            "messages": [describe_message(message) for message in self.messages],
            "tools": describe_tools(self.tools),
            "config": dict(self.config),
            "output_schema": self.output_schema,
            "tool_choice": self.tool_choice,
        }
        return {name: value for name, value in described.items() if value is not None}

    def canonical_json(self) -> str:
        """The canonical JSON for hashing, comparing and storing: sorted keys, no whitespace.

        Bytes and addresses are replaced by their SHA-256, ids of tool calls by numbers in the order of the calls,
        and keys in ``config`` by ``***``. Provider details are left out.
        """
        calls = _CallNumbers()
        asked = {
            "config": _canonical(self.config),
            "messages": [_canonical_message(message, calls) for message in self.messages],
            "model": self.model,
            "output_schema": _canonical(self.output_schema),
            "tool_choice": self.tool_choice,
            "tools": [
                {"description": tool.description, "name": tool.name, "parameters": _canonical(tool.parameters)}
                for tool in self.tools
            ],
        }
        return json.dumps(asked, sort_keys=True, separators=(",", ":"))

    def fingerprint(self) -> str:
        """SHA-256 of `canonical_json`, in hex."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChatRequest):
            return NotImplemented
        return self.canonical_json() == other.canonical_json()

    def __hash__(self) -> int:
        return hash(self.canonical_json())


def describe_tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Tools as JSON."""
    return [{"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools]


class _CallNumbers:
    """Numbers tool calls in their order; an id that comes again is another call."""

    def __init__(self) -> None:
        self._latest: dict[str | None, int] = {}
        self._count = 0

    def add(self, tool_call_id: str) -> int:
        self._count += 1
        self._latest[tool_call_id] = self._count
        return self._count

    def find(self, tool_call_id: str | None) -> int | None:
        return self._latest.get(tool_call_id)


def _canonical_message(message: Message, numbers: _CallNumbers) -> dict[str, Any]:
    form: dict[str, Any] = {"parts": [_canonical_part(part) for part in message.parts], "role": message.role}
    if message.tool_calls:
        form["tool_calls"] = [
            {"arguments": call.arguments, "id": numbers.add(call.tool_call_id), "name": call.name}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        form["name"] = message.name
        form["tool_call_id"] = numbers.find(message.tool_call_id)
    return form


def _canonical_part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    kind = "image" if isinstance(part, ImagePart) else "file"
    return {
        "kind": kind,
        "media_type": part.media_type,
        "name": part.name,
        # An address, too: it may hold a password or a signature.
        "sha256": hashlib.sha256(part.data if part.data is not None else str(part.url).encode()).hexdigest(),
        "is_address": part.data is None,
    }


def _canonical(value: Any) -> Any:
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


Emit: TypeAlias = Callable[[Event], None]
"""Takes an event that happens while a tool call runs."""


class ToolCallRunner(Protocol):
    """Runs one tool call, the decision on its approval included; it never raises for a tool's failure."""

    def __call__(self, call: ToolCallRequested, round_number: int, emit: Emit) -> Awaitable[ToolCallFinished]:
        """Run ``call`` and return how it ended.

        Args:
            round_number: of the turn, from 1.
            emit: takes what happens meanwhile: `ApprovalRequested`, `ApprovalDecided`. If the call is cancelled,
                also its `ToolCallFinished`, before the cancellation is raised.
        """


class TurnResponse(Protocol):
    """The part of a turn's response that `ChatRepository.chat` uses: its text, piece by piece."""

    def __aiter__(self) -> AsyncIterator[str]: ...
    async def aclose(self) -> None: ...


class StartsTurns(Protocol):
    """The part of an agent that `ChatRepository.chat` uses."""

    async def start_turn(self, repository: ChatRepository, message: MessageContent) -> TurnResponse: ...


class ChatRepository(ABC):
    """A provider. Holds no state of a stream, so one instance serves any number of turns at once.

    Example:
        >>> class Echo(ChatRepository):
        ...     provider = default_model = "echo"
        ...     async def round_trip(self, request):
        ...         yield request.messages[-1].text
        ...         yield RoundEnded("stop")
        ...     async def models(self):
        ...         return ["echo"]
    """

    provider: str
    """Name of the provider, as in the recorder."""
    server: str | None = None
    """Host name of the server, as in the recorder; None if there is none."""
    base_url: str | None = None
    """Address of the server, where the user or the environment names it."""
    default_model: str | None = None
    """The model of an agent that names none; None if one must be named."""
    unsupported_config: Mapping[str, str] = MappingProxyType({})
    """Keys of ``config`` that the provider cannot take, and what to do instead."""
    price_provider: str | None = None
    """The provider's id in genai-prices; None to find it by ``server``, empty for one without published prices."""
    telemetry_provider: str | None = None
    """The provider's name in the OpenTelemetry conventions; None for ``provider``."""

    @abstractmethod
    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Send one request and yield its text as it arrives, other events, and `RoundEnded` last.

        Raises:
            ProviderError: translated from whatever the SDK, the network or the server raised.
        """

    @abstractmethod
    async def models(self) -> list[str]:
        """Names of the models the server offers.

        Raises:
            ProviderError: the server cannot be asked.
        """

    async def context_window(self, model: str) -> int | None:
        """The model's context in tokens, prompt and answer together, as the server says; None if it does not.

        Asked before the first request of an agent whose history is limited by tokens. It should not raise.
        """
        return None

    def served_models(self) -> list[str] | None:
        """The models of a server at home, of which one is taken where none is named; it blocks, but not for long.

        None if it is no such server; empty if it does not answer.

        Raises:
            ProviderError: it refuses to say, or is still loading its model.
        """
        return None

    async def first_concurrency(self) -> int | None:
        """How many requests a batch should begin with at a time; None for a server that takes many at once."""
        return None

    async def max_concurrency(self) -> int | None:
        """How many requests the server works on at a time, as it says; None if it does not."""
        return None

    def check_config(self, config: Mapping[str, Any]) -> None:  # noqa: B027 - a hook
        """Check options that are valid one by one, but not together.

        Raises:
            UnsupportedConfigError: the provider cannot take them; the message says what to do.
        """

    def preview(self, request: ChatRequest) -> RequestPreview:
        """Show what `round_trip` would send for a request; nothing is sent."""
        return RequestPreview(body=mask_json(request.described()))

    def without_retries(self) -> ChatRepository:
        """This provider without its own retries, for callers with a retry policy, such as a batch."""
        return self

    def reply_sources(self, model: str) -> frozenset[ReplySource]:
        """The sources whose provider details may be sent with a request; a wrapper around several has several."""
        return frozenset()

    def wrap_tools(self, run: ToolCallRunner, turn_id: str) -> ToolCallRunner:
        """The function that runs the tool calls of a turn: ``run``, or a wrapper's function that calls it.

        Args:
            turn_id: as in the requests of the turn.
        """
        return run

    async def chat(self, agent: StartsTurns, message: str) -> AsyncGenerator[str, None]:
        """The text of a whole turn, tools included, piece by piece; closing the generator stops the turn.

        Example:
            >>> agent = Agent(name="helper", model="gpt-6-luna")
            >>> async for token in OpenAIChatAdapter().chat(agent, "Hello"):
            ...     print(token, end="")
        """
        response = await agent.start_turn(self, message)
        try:
            async for token in response:
                yield token
        finally:
            await response.aclose()
