"""What time it is, anywhere."""

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
    """The current date and time in a time zone; default the zone of this machine.

    Args:
        now: where the time comes from: a function that returns an aware datetime.

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
        """The time as text.

        Raises:
            ValueError: no such zone, with the closest names; no such format.
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
    """A zone and what it is called; None and "" for the local one."""
    from zoneinfo import ZoneInfo, available_timezones

    wanted = name.strip().replace(" ", "_")
    if wanted.lower() in ("", "local"):
        return None, ""
    try:
        zone = ZoneInfo(wanted)
    except (KeyError, ValueError, OSError):  # it opens a file of that name, which may be a folder
        pass
    else:
        return zone, wanted
    plain = {_normalize(known): known for known in sorted(available_timezones())}
    if _normalize(wanted) in plain:
        return ZoneInfo(plain[_normalize(wanted)]), plain[_normalize(wanted)]
    raise ValueError(
        f"unknown time zone {name!r}; {_suggest(_normalize(wanted), plain)}"
        "Use an IANA name such as 'Europe/Lisbon', 'America/Sao_Paulo' or 'UTC'"
    )


def _suggest(wanted: str, plain: dict[str, str]) -> str:
    city = wanted.rsplit("/", 1)[-1]
    same_city = [known for key, known in plain.items() if key.rsplit("/", 1)[-1] == city]
    cities = {key.rsplit("/", 1)[-1]: known for key, known in plain.items()}
    close = [plain[key] for key in difflib.get_close_matches(wanted, plain, n=3)]
    close += [cities[key] for key in difflib.get_close_matches(city, cities, n=3)]
    names = list(dict.fromkeys(same_city + close))[:3]
    return f"did you mean {' or '.join(names)}? " if names else ""


def _normalize(text: str) -> str:
    """Lower case and without accents: São_Paulo is America/Sao_Paulo."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
