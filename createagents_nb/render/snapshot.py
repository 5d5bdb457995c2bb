"""Snapshots of a turn as it is shown: plain frozen data, no widget and no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..core.records import CallStatus, ToolStatus
from ..core.tool_display import ToolDisplay

__all__ = ["Block", "NoticeLine", "ReasoningBlock", "TextBlock", "ToolLine", "TurnSnapshot"]


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A piece of the answer: Markdown as the model wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """A line for the user that is not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLine:
    """One tool call, from the moment the model requests it."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it, which may be broken."""
    status: Literal["running", "waiting", "not_run"] | ToolStatus = "running"
    """``waiting``: for approval; ``not_run``: the turn ended before the call started."""
    is_edited: bool = False
    """Whether the approver changed the arguments."""
    latency_s: float | None = None
    result: str | None = None
    """The text sent back to the model: the result, or an error message."""
    round: int = 1
    display: ToolDisplay | None = None
    """Richer form of the result for the user, if there is one."""
    by_provider: bool = False
    """Whether the provider runs the tool, and nothing is run here."""


Block: TypeAlias = TextBlock | ReasoningBlock | NoticeLine | ToolLine


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSnapshot:
    """State of a turn: its blocks in order, and its status and figures.

    ``record`` can be dumped as JSON: ``{"call": {…}, "requests": [{…}], "tools": [{…}]}``.
    Unknown figures are None.
    """

    call_id: str
    agent: str
    provider: str
    model: str
    status: CallStatus
    finish_reason: str | None = None
    """Why the last round ended, as the server reports it."""
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
    """Whether pages load the images that the answer links to."""
    not_kept: bool = False
    """Whether blocks are missing because the recorder keeps no content."""
    record: Mapping[str, Any] = field(default_factory=dict)
