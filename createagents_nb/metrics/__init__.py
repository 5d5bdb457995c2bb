"""Metrics of every call, request and tool, as DataFrames and exports."""

from __future__ import annotations

from .budget import Budget
from .metrics_recorder import MetricsRecorder
from .observers import RecorderWarning

__all__ = ["Budget", "MetricsRecorder", "RecorderWarning", "recorder"]

recorder = MetricsRecorder()
"""Where every agent records unless it was given a recorder of its own."""
