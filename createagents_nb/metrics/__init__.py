"""Metrics of every call, request and tool, as DataFrames and exports."""

from __future__ import annotations

from .budget import Budget
from .metrics_recorder import MetricsRecorder
from .observers import RecorderWarning

__all__ = ["Budget", "MetricsRecorder", "RecorderWarning", "recorder"]

recorder = MetricsRecorder()
"""The notebook's recorder, used by every agent that is not given another one."""


def reset() -> None:
    """Return `recorder` to its initial state: no file, records, budget, prices or settings."""
    recorder.persist(None)
    MetricsRecorder.__init__(recorder)
