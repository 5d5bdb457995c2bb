"""What is shown of a turn, at one moment: plain frozen data, no widget and no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..core.records import CallStatus, ToolStatus
from ..core.tool_display import ToolDisplay

__all__ = ["Block", "ReasoningBlock", "TextBlock", "ToolLine", "TurnSnapshot"]


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A stretch of the answer, Markdown as the model wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """A stretch of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLine:
    """One tool call, from the moment it was asked for."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it, which may be broken."""
    status: Literal["running", "waiting", "not_run"] | ToolStatus = "running"
    """``waiting``: for approval; ``not_run``: the turn ended before it began."""
    is_edited: bool = False
    """Whether the arguments are not the model's, but those of whoever approved the call."""
    latency_s: float | None = None
    result: str | None = None
    """As the model was told it: the result, or the error in words."""
    round: int = 1
    display: ToolDisplay | None = None
    """As the user is shown it, where that is more than the text."""


Block: TypeAlias = TextBlock | ReasoningBlock | ToolLine


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSnapshot:
    """A turn as it stands: its blocks in the order in which they happened, and how it goes.

    ``record`` is JSON-able: ``{"call": {…}, "requests": [{…}], "tools": [{…}]}``.
    Unknown numbers are None.
    """

    call_id: str
    agent: str
    provider: str
    model: str
    status: CallStatus
    blocks: tuple[Block, ...] = ()
    elapsed_s: float | None = None
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_per_s: float | None = None
    cost_usd: float | None = None
    error_text: str | None = None
    error_type: str | None = None
    demo: bool = False
    remote_images: bool = False
    """Whether the images that the answer links to are loaded."""
    not_kept: bool = False
    """Whether something that was said is left out, since the recorder keeps no content."""
    record: Mapping[str, Any] = field(default_factory=dict)
