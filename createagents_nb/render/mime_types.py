"""The names of the MIME types that saved output uses beside the standard ones."""

from __future__ import annotations

__all__ = ["BUNDLE_MIME", "BUNDLE_VERSION"]

BUNDLE_MIME = "application/vnd.createagents-nb+json"
"""The record of a turn: ``call``, ``requests``, ``tools`` and ``version``."""
BUNDLE_VERSION = 1
"""Version of that format."""
