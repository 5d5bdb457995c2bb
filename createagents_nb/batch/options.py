"""What a batch may be told, checked before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from ..errors import ConfigurationError

__all__ = ["OnError", "Options"]

OnError = Literal["keep", "stop"]


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword arguments of `CreateAgent.map`; see there.

    Raises:
        ConfigurationError: one of them cannot be.
    """

    concurrency: int
    rpm: float | None = None
    tpm: float | None = None
    on_error: OnError = "keep"
    resume: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if not _is(self.concurrency, Integral) or self.concurrency < 1:
            raise ConfigurationError(
                f"concurrency must be a whole number, 1 or more (rows at the same time), not {self.concurrency!r}"
            )
        for name, what, limit in (("rpm", "requests", self.rpm), ("tpm", "tokens", self.tpm)):
            if limit is not None and not (_is(limit, Real) and 0 < limit < math.inf):
                raise ConfigurationError(
                    f"{name} must be {what} a minute, a number above 0, or None for no limit, not {limit!r}"
                )
        if self.on_error not in ("keep", "stop"):
            raise ConfigurationError(
                "on_error must be 'keep' (a row that fails is kept as such) or 'stop' (the first one ends the "
                f"batch), not {self.on_error!r}"
            )
        for name, value in (("resume", self.resume), ("progress", self.progress)):
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
