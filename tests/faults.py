"""All that can go wrong between an agent and a server, in the order of the page that tells of it."""

from __future__ import annotations

from fault_kit import FAULTS, TOOL, Fault

from faults_unanswered import BREAKS, SILENCE, WAY  # isort: skip - first, for the order
from faults_answered import AGAIN, ELSE, FORMS, ODD, STATUS, STATUSES, WORDS  # isort: skip

__all__ = ["FAULTS", "GROUPS", "STATUS", "STATUSES", "TOOL", "Fault"]

GROUPS = (WAY, SILENCE, BREAKS, ELSE, STATUS, WORDS, AGAIN, ODD, FORMS)
