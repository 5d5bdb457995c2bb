"""Metrics of every call, request and tool, as DataFrames and exports."""

from __future__ import annotations

from .metrics_recorder import MetricsRecorder

__all__ = ["MetricsRecorder", "recorder"]

recorder = MetricsRecorder()
"""Where every agent records unless it was given a recorder of its own."""
