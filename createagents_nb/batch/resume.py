"""Rows that were answered before: found in the recorder by what was asked, and of whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigurationError, InvalidMessageError
from ..metrics import MetricsRecorder
from .row_agent import RowAgent

__all__ = ["earlier_answers"]

_COLUMNS = ("prompt", "response", "input_tokens", "output_tokens", "cost_usd", "latency_s", "call_id")


def earlier_answers(
    recorder: MetricsRecorder, row_agent: RowAgent, texts: Sequence[str | InvalidMessageError]
) -> dict[int, dict[str, Any]]:
    """What goes into the frame of rows that were answered ``ok`` before, by their positions.

    By the same provider and model, that is, and the same name where the agent was given one. Rows with the same
    prompt are given one answer each, the latest, in the order in which they came: where five were asked and three
    answered, two are left to ask.

    Raises:
        ConfigurationError: the recorder keeps no prompts.
    """
    why = "resume=True looks for the prompts of this batch in the recorder, which"
    if not recorder.record_content:
        raise ConfigurationError(
            f"{why} keeps none (record_content=False): leave resume out, or let it keep what is said"
        )
    calls = recorder.calls
    agent = row_agent.agent
    same = (calls["status"] == "ok") & (calls["provider"] == row_agent.repository.provider)
    same &= calls["model"] == agent.model
    if row_agent.is_named:
        same &= calls["agent"] == agent.name
    calls = calls[same]
    if len(calls) and calls["prompt"].isna().all():
        raise ConfigurationError(f"{why} has kept none of its calls' (record_content=False, or redact=)")
    calls = calls[calls["prompt"].notna() & calls["response"].notna()]
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt, *known in zip(*(calls[column].tolist() for column in _COLUMNS), strict=True):
        found[prompt].append(dict(zip(("answer", *_COLUMNS[2:]), known, strict=True)))
    wanted = Counter(text for text in texts if isinstance(text, str) and text in found)
    latest = {text: iter(found[text][-count:]) for text, count in wanted.items()}
    answers: dict[int, dict[str, Any]] = {}
    for position, text in enumerate(texts):
        answer = next(latest[text], None) if isinstance(text, str) and text in latest else None
        if answer is not None:
            answers[position] = {"status": "ok", **answer}
    return answers
