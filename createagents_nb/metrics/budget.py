"""Budgets: limits on cost, tokens and calls, and what has been spent."""

from __future__ import annotations

import math
import warnings

from ..core.records import RequestRecord
from ..errors import BudgetExceededError, ConfigurationError
from .observers import RecorderWarning

__all__ = ["Budget"]


class Budget:
    """Limits on spending from now on; see `MetricsRecorder.budget`.

    Attributes:
        cost_usd, tokens, calls: the limits; None for no limit. Tokens are input plus output.
        spent_usd, spent_tokens, spent_calls: since the budget was set.
        unpriced: finished requests of unknown cost, which ``spent_usd`` does not include.
    """

    def __init__(
        self, *, cost_usd: float | None = None, tokens: int | None = None, calls: int | None = None
    ) -> None:
        limits = {"cost_usd": cost_usd, "tokens": tokens, "calls": calls}
        for name, limit in limits.items():
            is_invalid = isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < math.inf
            if limit is not None and (is_invalid or (name != "cost_usd" and limit != int(limit))):
                whole = "" if name == "cost_usd" else "whole "
                raise ConfigurationError(f"budget: {name} must be a {whole}number, 0 or more, not {limit!r}")
        if all(limit is None for limit in limits.values()):
            raise ConfigurationError(
                "budget: say what may be spent, as in recorder.budget(cost_usd=1.50, tokens=100_000, calls=20)"
            )
        self.cost_usd = cost_usd
        self.tokens, self.calls = (None if limit is None else int(limit) for limit in (tokens, calls))
        self.spent_usd, self.spent_tokens, self.spent_calls, self.unpriced = 0.0, 0, 0, 0
        self._warned: set[str] = set()

    def admit(self, round_number: int) -> None:
        """Count a request that is about to be sent.

        Raises:
            BudgetExceededError: a limit is reached.
        """
        spent = []
        if self.cost_usd is not None and self.spent_usd >= self.cost_usd:
            spent.append(f"${self.spent_usd:.4f} of ${self.cost_usd:.4f}")
        if self.tokens is not None and self.spent_tokens >= self.tokens:
            spent.append(f"{self.spent_tokens:,} of {self.tokens:,} tokens")
        if self.calls is not None and round_number == 1 and self.spent_calls >= self.calls:
            spent.append(f"{self.spent_calls:,} of {self.calls:,} calls")
        if spent:
            raise BudgetExceededError(
                f"The budget is spent: {', '.join(spent)}. No request was sent; set another with "
                "recorder.budget(…) or %agent budget, or take it away with %agent budget off"
            )
        self.spent_calls += round_number == 1

    def spend(self, record: RequestRecord) -> None:
        """Count the tokens and the cost of a finished request."""
        self.spent_tokens += (record.input_tokens or 0) + (record.output_tokens or 0)
        if record.status == "ok" and record.input_tokens is None and record.output_tokens is None:
            self.warn_uncounted(record.provider, record.model, counts_tokens=False)
        if record.cost_usd is not None:
            self.spent_usd += record.cost_usd
            return
        if record.status != "ok" and record.input_tokens is None and record.output_tokens is None:
            return  # not answered
        self.unpriced += 1
        self.warn_uncounted(record.provider, record.model, counts_tokens=True)

    def warn_uncounted(self, provider: str, model: str, *, counts_tokens: bool) -> None:
        """Warn, once for each limit, that a limit does not count a model.

        Args:
            counts_tokens: whether the server reports tokens, so that only the price is missing.
        """
        if self.tokens is not None and not counts_tokens and "tokens" not in self._warned:
            self._warn(
                "tokens",
                f"The budget of {self.tokens:,} tokens does not count {provider}:{model}, whose server reports no "
                "tokens: limit calls instead",
            )
        if self.cost_usd is not None and "cost_usd" not in self._warned:
            way_out = (
                f"recorder.set_price({model!r}, input_usd=…, output_usd=…) gives it, or limit tokens or calls"
                if counts_tokens
                else "its server reports no tokens, so limit calls instead"
            )
            self._warn(
                "cost_usd",
                f"The budget of ${self.cost_usd:g} does not count {provider}:{model}, whose price is not known: "
                f"{way_out}",
            )

    def _warn(self, limit: str, message: str) -> None:
        self._warned.add(limit)
        warnings.warn(message, RecorderWarning, stacklevel=3)

    def __repr__(self) -> str:
        parts = []
        if self.cost_usd is not None:
            requests = "request" if self.unpriced == 1 else "requests"
            unpriced = f" ({self.unpriced:,} {requests} of unknown cost)" if self.unpriced else ""
            parts.append(f"${self.spent_usd:.4f} of ${self.cost_usd:.4f} spent{unpriced}")
        if self.tokens is not None:
            parts.append(f"{self.spent_tokens:,} of {self.tokens:,} tokens")
        if self.calls is not None:
            parts.append(f"{self.spent_calls:,} of {self.calls:,} calls")
        return f"Budget: {', '.join(parts)}"
