"""docs/reliability.md: words written by hand around tables of what really came out of tests/test_faults.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faults import FAULTS, GROUPS, STATUS

__all__ = ["Outcome", "neutral", "render"]

INTRODUCTION = Path(__file__).with_name("reliability_intro.md")


@dataclass(frozen=True)
class Outcome:
    """How a turn ended.

    Attributes:
        error: the type of its error; None when it ended well.
        text: what is there of the answer.
        retries: as the recorder has them, of its last request.
        requests: how many the server has seen.
    """

    error: str | None
    message: str
    caused: bool
    text: str
    retries: int
    requests: int


def neutral(message: str, port: int) -> str:
    """A message without what differs from one run, system or version of a library to the next."""
    message = re.sub(rf"(?:127\.0\.0\.1|localhost):{port}\b", "server", message)
    message = re.sub(r"(cannot be reached): .*?(?=\. Check)", r"\1: …", message)
    return re.sub(r"(broken data|answer in HTTP) \(.*?\)(?=[:.])", r"\1 (…)", message)


def render(outcomes: Mapping[tuple[str, str], Outcome]) -> str:
    """The page.

    Args:
        outcomes: by fault and provider; of all of them.
    """
    parts = [INTRODUCTION.read_text(encoding="utf-8")]
    for group in GROUPS:
        names = [name for name, known in FAULTS.items() if known.group == group]
        if group == STATUS:
            # How a status is explained changes nothing but the words in brackets.
            names = [name for name in names if name.endswith("with JSON")]
        rows = [_row(name, outcomes[name, "openai"], outcomes[name, "ollama"]) for name in names]
        head = "| fault | what you see | what is kept | sent |\n| --- | --- | --- | --- |\n"
        note = "\nWithout an explanation, or with one in HTML, they are the same.\n" if group == STATUS else ""
        parts.append(f"\n### {group}\n{note}\n{head}{''.join(rows)}")
    return "".join(parts)


def _row(name: str, openai: Outcome, ollama: Outcome) -> str:
    fault = FAULTS[name]
    cells = [
        f"**{name}**: {fault.description}" if fault.group != STATUS else fault.description,
        _both(_seen(openai), _seen(ollama)),
        _both(_kept(openai), _kept(ollama)),
        _both(str(openai.requests), str(ollama.requests)),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _both(openai: str, ollama: str) -> str:
    return openai if openai == ollama else f"openai: {openai}<br>ollama: {ollama}"


def _seen(outcome: Outcome) -> str:
    again = {0: "", 1: ", after one more attempt"}.get(outcome.retries, f", after {outcome.retries} more attempts")
    if outcome.error is None:
        return f"the answer{again}"
    message = outcome.message.replace("`", "'").replace("<", "&lt;").replace("\n", " ")
    return f"`{outcome.error}`{again}: {message}"


def _kept(outcome: Outcome) -> str:
    if not outcome.text:
        return "the row"
    if len(outcome.text) > 100:
        return f"all {len(outcome.text):,} characters"
    return f"the row, and “{outcome.text.strip()}”" if outcome.error else f"“{outcome.text.strip()}”"
