"""What a request costs: the user's prices, else the published ones of the `genai-prices` package, read offline."""

from __future__ import annotations

import ipaddress
import math
import threading
from dataclasses import dataclass
from functools import lru_cache

from ..core.records import RequestRecord
from ..errors import ConfigurationError

__all__ = ["Prices", "load_published"]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class _Price:
    """US dollars for a million tokens."""

    input: float
    output: float
    cached: float


class Prices:
    """Prices of models; those that were set go before those that are published."""

    def __init__(self) -> None:
        self._own: dict[tuple[str | None, str], _Price] = {}
        self._unpriced: set[tuple[str, str]] = set()
        """Servers and models that the published prices do not know."""

    def set(
        self,
        model: str,
        provider: str | None,
        *,
        input_usd: float,
        output_usd: float,
        cached_usd: float | None = None,
    ) -> None:
        """See `MetricsRecorder.set_price`."""
        if not isinstance(model, str) or not model:
            raise ConfigurationError(f"set_price: model must be its name, not {model!r}")
        prefix, _, name = model.partition(":")
        if (
            provider is None and name and prefix in ("openai", "ollama", "demo")
        ):  # as `%agent use` and agents write it
            provider, model = prefix, name
        cached_usd = input_usd if cached_usd is None else cached_usd
        for name, price in {"input_usd": input_usd, "output_usd": output_usd, "cached_usd": cached_usd}.items():
            if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
                raise ConfigurationError(
                    f"set_price: {name} must be US dollars for a million tokens, 0 or more, not {price!r}"
                )
        self._own[provider, model] = _Price(float(input_usd), float(output_usd), float(cached_usd))

    def prepare(self, record: RequestRecord) -> None:
        """A request is sent: when it has ended its price may be asked for, and reading them all takes a while."""
        if not _loading.is_set() and _may_be_published(record):
            _loading.set()
            threading.Thread(target=load_published, name="createagents-nb prices", daemon=True).start()

    def cost_usd(self, record: RequestRecord) -> float | None:
        """Of the tokens in ``record``; None where its model has no price or its tokens are not known."""
        if record.input_tokens is None or record.output_tokens is None:
            return None
        own = self._own.get((record.provider, record.model)) or self._own.get((None, record.model))
        if own is None:
            return self._published(record)
        cached = _cached(record)
        dollars = (
            (record.input_tokens - cached) * own.input + cached * own.cached + record.output_tokens * own.output
        )
        return dollars / _MILLION

    def _published(self, record: RequestRecord) -> float | None:
        if not _may_be_published(record):
            return None
        from genai_prices import Usage, calc_price

        usage = Usage(
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            cache_read_tokens=_cached(record),
        )
        for model in dict.fromkeys(name for name in (record.model, record.response_model) if name):
            if (record.server or "", model) in self._unpriced:
                continue
            try:
                price = calc_price(
                    usage,
                    model,
                    provider_api_url=f"https://{record.server}",
                    genai_request_timestamp=record.started_at,
                )
            except LookupError:
                self._unpriced.add((record.server or "", model))
            else:
                return float(price.total_price)
        return None


def _cached(record: RequestRecord) -> int:
    """Cached tokens are part of the input."""
    return max(0, min(record.cached_tokens or 0, record.input_tokens or 0))


_loading = threading.Event()


def load_published() -> None:
    """Read the published prices, which takes some tenths of a second of CPU; not on the loop."""
    _loading.set()
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def _may_be_published(record: RequestRecord) -> bool:
    """A server of one's own has no published price, and its model may have the name of one that has."""
    return record.provider not in ("demo", "ollama") and _is_public(record.server or "")


@lru_cache(maxsize=64)
def _is_public(server: str) -> bool:
    if "." not in server:
        return False
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return True
    return False
