"""Cost of requests: by the user's prices, else by the published ones of ``genai-prices``, read offline."""

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
    """In US dollars per million tokens."""

    input: float
    output: float
    cached: float


class Prices:
    """Prices of models; those set by the user take precedence over published ones."""

    def __init__(self) -> None:
        self._own: dict[str, _Price] = {}
        """Prices set by the user, by ``model`` or ``provider:model``."""
        self._unpriced: set[tuple[str, str]] = set()
        """Provider ids or servers, and models, without a published price."""

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
        cached_usd = input_usd if cached_usd is None else cached_usd
        for name, price in {"input_usd": input_usd, "output_usd": output_usd, "cached_usd": cached_usd}.items():
            if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
                raise ConfigurationError(
                    f"set_price: {name} must be US dollars for a million tokens, 0 or more, not {price!r}"
                )
        key = model if provider is None else f"{provider}:{model}"
        self._own[key] = _Price(float(input_usd), float(output_usd), float(cached_usd))

    def prepare(self, record: RequestRecord) -> None:
        """Start loading the published prices in a thread when a request that may need them is sent."""
        if not _loading.is_set() and _may_be_published(record):
            _loading.set()
            threading.Thread(target=load_published, name="createagents-nb prices", daemon=True).start()

    def is_own(self, provider: str, model: str) -> bool:
        """Whether the user has set the price of a model."""
        return f"{provider}:{model}" in self._own or model in self._own

    def is_missing(self, record: RequestRecord) -> bool:
        """Whether a request that is about to be sent is known to have no price, as one to a local model."""
        return record.price_provider == "" and not self.is_own(record.provider, record.model)

    def cost_usd(self, record: RequestRecord) -> float | None:
        """Cost of a request in US dollars; None if its tokens or the price of its model are unknown."""
        if record.input_tokens is None or record.output_tokens is None:
            return None
        own = self._own.get(f"{record.provider}:{record.model}") or self._own.get(record.model)
        if own is None:
            return self._published(record)
        cached = _cached(record)
        dollars = (
            (record.input_tokens - cached) * own.input + cached * own.cached + record.output_tokens * own.output
        )
        return dollars / _MILLION

    def context_window(self, record: RequestRecord) -> int | None:
        """The published size of the context of a request's model, in tokens; None if unknown."""
        if not _may_be_published(record):
            return None
        for model in dict.fromkeys(name for name in (record.model, record.response_model) if name):
            window = _published_window(record.price_provider, record.server, model)
            if window is not None:
                return window
        return None

    def _published(self, record: RequestRecord) -> float | None:
        if not _may_be_published(record):
            return None
        from genai_prices import Usage, calc_price

        provider = record.price_provider
        source = provider or record.server or ""
        usage = Usage(
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            cache_read_tokens=_cached(record),
        )
        for model in dict.fromkeys(name for name in (record.model, record.response_model) if name):
            if (source, model) in self._unpriced:
                continue
            try:
                if provider:
                    price = calc_price(
                        usage, model, provider_id=provider, genai_request_timestamp=record.started_at
                    )
                else:
                    price = calc_price(
                        usage,
                        model,
                        provider_api_url=f"https://{record.server}",
                        genai_request_timestamp=record.started_at,
                    )
            except LookupError:
                self._unpriced.add((source, model))
            else:
                return float(price.total_price)
        return None


def _cached(record: RequestRecord) -> int:
    """Cached tokens, of which there are at most as many as input tokens."""
    return max(0, min(record.cached_tokens or 0, record.input_tokens or 0))


_loading = threading.Event()
"""Set once the published prices are being loaded or are loaded: once per process."""


def reset() -> None:
    """Forget that the published prices were loaded, so that the next request loads them again."""
    _loading.clear()


def load_published() -> None:
    """Load the published prices: a few tenths of a second of CPU, so not on the event loop."""
    _loading.set()
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def _may_be_published(record: RequestRecord) -> bool:
    """Whether a published price may apply: never to a private server, whatever its model is called."""
    provider = record.price_provider
    return _is_public(record.server or "") if provider is None else bool(provider)


@lru_cache(maxsize=256)
def _published_window(provider: str | None, server: str | None, model: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    address = None if provider else f"https://{server}"
    try:
        return get_snapshot().find_provider_model(model, None, provider, address)[1].context_window
    except LookupError:
        return None


@lru_cache(maxsize=64)
def _is_public(server: str) -> bool:
    if "." not in server:
        return False
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return True
    return False
