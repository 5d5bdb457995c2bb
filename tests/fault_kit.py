"""What a fault is: a scenario with a name, a description and what should come of it.

Where a function has several, the lowest comes first, here as on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fault_server import Serve

__all__ = ["FAULTS", "LONG_LINE", "SOON", "TIMEOUT_S", "TOOL", "Fault", "fault", "keep_alive"]


TOOL = "clock"
TIMEOUT_S = 0.5
"""Of the scenarios in which nothing comes."""
PATIENT_S = 20.0
"""Of all others, on a machine that has other things to do."""
SOON = {"retry_after": "0.001"}
LONG_LINE = 10 * 2**20


@dataclass(frozen=True)
class Fault:
    """A scenario.

    Attributes:
        description: what the server does.
        error: the type of error that the turn ends with; None: it ends well.
        kept: the text that is there in the end.
        caused: whether there is an exception below ours that must be chained.
        way: how the server is reached: ``deaf`` does not listen.
        retries: how often the request has been sent again in the end.
        differs: what is otherwise for one of the providers.
    """

    group: str
    description: str
    serve: Serve
    error: str | None
    kept: str = ""
    caused: bool = True
    way: Literal["http", "deaf", "nowhere", "untrusted", "other name", "no tls"] = "http"
    timeout_s: float = PATIENT_S
    max_retries: int = 0
    retries: int = 0
    has_tool: bool = False
    differs: dict[str, dict[str, object]] = field(default_factory=dict)

    def of(self, provider: str, name: str) -> object:
        return self.differs.get(provider, {}).get(name, getattr(self, name))


FAULTS: dict[str, Fault] = {}


def fault(group: str, name: str, description: str, error: str | None, **more: object) -> Callable[[Serve], Serve]:
    def add(serve: Serve) -> Serve:
        FAULTS[name] = Fault(group, description, serve, error, **more)  # type: ignore[arg-type]
        return serve

    return add


def keep_alive(provider: str) -> bytes:
    return b": still here\n\n" if provider == "openai" else b"\n"
