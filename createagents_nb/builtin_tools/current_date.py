"""The tool that tells the current date and time in a time zone."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from ..tools.tool import BaseTool

__all__ = ["CurrentDateTool"]

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CurrentDateTool(BaseTool):
    """Tells the current date and time in a time zone, by default the local one.

    Args:
        now: clock to use: a function that returns an aware datetime.

    Example:
        >>> CurrentDateTool().execute(tz="Europe/Lisbon", format="date")
        '2026-03-29'
    """

    name = "currentdate"
    description = (
        "Tells the current date and time: what day, date, weekday or time it is today, right now. "
        "Use it for every question about today, now, or a date counted from today."
    )
    parameters: dict[str, Any] = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "tz": {
                "type": "string",
                "description": "IANA time zone such as 'Europe/Lisbon' or 'UTC'; default: the local time zone",
            },
            "format": {
                "type": "string",
                "enum": ["human", "iso", "date", "time"],
                "description": "human: weekday, date, time and zone (default); iso: ISO 8601; date: YYYY-MM-DD; "
                "time: HH:MM:SS",
            },
        },
        "required": [],
        "additionalProperties": False,
    }

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now

    def execute(self, tz: str = "local", format: str = "human") -> str:  # noqa: A002 - the word a model knows
        """Return the time as text.

        Raises:
            ValueError: unknown time zone (the message lists the closest names) or format.
        """
        zone, label = _find_zone(tz)
        now = self._now().astimezone(zone)
        if format == "iso":
            return now.isoformat(timespec="seconds")
        if format == "date":
            return now.date().isoformat()
        if format == "time":
            return now.time().isoformat(timespec="seconds")
        if format == "human":
            offset = now.strftime("%z")
            where = f"{label or now.tzname() or 'local time'}, UTC{offset[:3]}:{offset[3:5]}"
            return f"{_WEEKDAYS[now.weekday()]}, {now:%Y-%m-%d, %H:%M:%S} ({where})"
        raise ValueError(f"unknown format {format!r}; available: human, iso, date, time")


def _find_zone(name: str) -> tuple[tzinfo | None, str]:
    """Return a zone and its label; None and "" for the local one."""
    from zoneinfo import ZoneInfo, available_timezones

    wanted = name.strip().replace(" ", "_")
    if wanted.lower() in ("", "local"):
        return None, ""
    try:
        zone = ZoneInfo(wanted)
    except (KeyError, ValueError, OSError):  # OSError: the name may be that of a folder
        pass
    else:
        return zone, wanted
    zones = {_normalize(key): key for key in sorted(available_timezones())}
    if _normalize(wanted) in zones:
        return ZoneInfo(zones[_normalize(wanted)]), zones[_normalize(wanted)]
    raise ValueError(
        f"unknown time zone {name!r}; {_suggest(_normalize(wanted), zones)}"
        "Use an IANA name such as 'Europe/Lisbon', 'America/Sao_Paulo' or 'UTC'"
    )


def _suggest(wanted: str, zones: dict[str, str]) -> str:
    city = wanted.rsplit("/", 1)[-1]
    same_city = [zone for key, zone in zones.items() if key.rsplit("/", 1)[-1] == city]
    cities = {key.rsplit("/", 1)[-1]: zone for key, zone in zones.items()}
    close = [zones[key] for key in difflib.get_close_matches(wanted, zones, n=3)]
    close += [cities[key] for key in difflib.get_close_matches(city, cities, n=3)]
    names = list(dict.fromkeys(same_city + close))[:3]
    return f"did you mean {' or '.join(names)}? " if names else ""


def _normalize(text: str) -> str:
    """Remove case and accents, so that São_Paulo finds America/Sao_Paulo."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
