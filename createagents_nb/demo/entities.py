"""Extracting from a message what could be an argument: numbers, names, quoted text, URLs, places…"""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass, field
from functools import lru_cache

from .stemming import STOP_WORDS, fold, is_portuguese, stem

__all__ = ["Entities", "Number", "extract_entities", "find_zone"]

_CODE_BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"|“([^”\n]+)”|«([^»\n]+)»|(?<!\w)'([^'\n]+)'(?!\w)")
_URL = re.compile(r"https?://[^\s<>\"'`)\]}]+")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?Z?)?")
_TIME_OF_DAY = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")
_NON_SPACE = re.compile(r"[^\s\"'`,;()<>“”]+")
_FILE = re.compile(
    r"(?i)[^/\\]*\.(csv|tsv|txt|md|jsonl?|ya?ml|xlsx?|parquet|pdf|py|ipynb|html?|xml|log|toml|ini|sql|png|jpe?g|zip|db)"
)
_PATH = re.compile(r"(?:~|\.{1,2})?/[\w.~/-]+")
_NUMBER = re.compile(
    r"(?<![\w.)])-?(?:\d{1,3}(?:,\d{3}){1,4}(?!\d)|\d{1,15})(?:[.,]\d{1,15})?(?=(?:[a-zA-Z]{1,3}|[%°])?(?![\w]))"
)
# Bounded repetitions: a message is untrusted, and the server has one thread.
_ARITHMETIC = re.compile(
    r"(?<![\w.])[-+( ]{0,8}N(?:[ )]{0,8}(?:\*\*|[-+*/^×x÷])[-+( ]{0,8}N)+[ )]{0,8}".replace(
        "N", r"\d{1,15}(?:\.\d{1,15})?"
    )
)
_PROPER_NOUN = re.compile(r"[A-ZÀ-Þ][\w'’-]*(?:[ \t]+(?:(?:de|do|da|of|the)[ \t]+)?[A-ZÀ-Þ][\w'’-]*)*")
_AFTER_PREPOSITION = re.compile(
    r"(?i:\b(?:in|at|for|from|to|em|no|na|para|de))[ \t]+([^\W\d_][\w'’-]*(?:[ \t]+[A-ZÀ-Þ][\w'’-]*)*)"
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_NUMBER_WORDS = {
    word: value
    for value, words in {
        2: "two dois duas", 3: "three tres", 4: "four quatro", 5: "five cinco", 6: "six seis", 7: "seven sete",
        8: "eight oito", 9: "nine nove", 10: "ten dez", 12: "twelve doze", 20: "twenty vinte",
    }.items()
    for word in words.split()
}  # fmt: skip

_REGIONS = ("Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
_CITIES = {
    "toquio": "Asia/Tokyo", "japan": "Asia/Tokyo", "japao": "Asia/Tokyo", "londres": "Europe/London",
    "lisboa": "Europe/Lisbon", "porto": "Europe/Lisbon", "portugal": "Europe/Lisbon", "berlim": "Europe/Berlin",
    "munich": "Europe/Berlin", "germany": "Europe/Berlin", "moscou": "Europe/Moscow", "roma": "Europe/Rome",
    "madri": "Europe/Madrid", "barcelona": "Europe/Madrid", "geneva": "Europe/Zurich", "milan": "Europe/Rome",
    "nova york": "America/New_York", "nova iorque": "America/New_York", "boston": "America/New_York",
    "washington": "America/New_York", "miami": "America/New_York", "houston": "America/Chicago",
    "san francisco": "America/Los_Angeles", "seattle": "America/Los_Angeles", "california": "America/Los_Angeles",
    "rio de janeiro": "America/Sao_Paulo", "brasilia": "America/Sao_Paulo", "brazil": "America/Sao_Paulo",
    "brasil": "America/Sao_Paulo", "beijing": "Asia/Shanghai", "pequim": "Asia/Shanghai", "delhi": "Asia/Kolkata",
    "mumbai": "Asia/Kolkata", "bangalore": "Asia/Kolkata", "india": "Asia/Kolkata", "cidade do mexico":
    "America/Mexico_City", "osaka": "Asia/Tokyo", "kyoto": "Asia/Tokyo", "montreal": "America/Toronto",
}  # fmt: skip


@dataclass(slots=True)
class Number:
    """A number in a message, with the stems of the words before and after it."""

    value: int | float
    before: str = ""
    after: str = ""
    used: bool = False


@dataclass(slots=True)
class Entities:
    """The entities in one text; lists are in the order of the text."""

    text: str
    quoted: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    expressions: list[str] = field(default_factory=list)


@lru_cache(maxsize=1)
def _time_zones() -> dict[str, str]:
    cities = dict(_CITIES)
    for zone in sorted(zoneinfo.available_timezones()):
        region, _, city = zone.rpartition("/")
        if region.split("/")[0] in _REGIONS:
            cities.setdefault(fold(city.replace("_", " ")), zone)
        cities[zone.casefold()] = zone
    return cities


def find_zone(text: str) -> str | None:
    """Return the IANA time zone that ``text`` names directly or by a city.

    >>> find_zone("São Paulo"), find_zone("europe/lisbon"), find_zone("Atlantis")
    ('America/Sao_Paulo', 'Europe/Lisbon', None)
    """
    return _time_zones().get(fold(text.strip()))


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(item for item in items if item))


def _extract(pattern: re.Pattern[str], text: str) -> tuple[list[str], str]:
    """Return all matches, and the text with blanks in their place, so that nothing is found twice."""
    matches = [match.group().rstrip(".,;:!?") for match in pattern.finditer(text)]
    return _unique(matches), pattern.sub(lambda match: " " * len(match.group()), text)


def extract_entities(text: str) -> Entities:
    """Find everything in ``text`` that could be an argument."""
    entities = Entities(text)
    entities.code = [match[1].rstrip("\n") for match in _CODE_BLOCK.finditer(text)]
    rest = _CODE_BLOCK.sub(" ", text)
    quoted = _QUOTED.findall(rest)
    entities.quoted = _unique([next(group for group in groups if group).strip() for groups in quoted])
    # Quoted text may also be a URL, a file or a place.
    entities.urls, rest = _extract(_URL, rest)
    entities.emails, rest = _extract(_EMAIL, rest)
    entities.dates, rest = _extract(_DATE, rest)
    clocks, rest = _extract(_TIME_OF_DAY, rest)
    entities.dates += clocks
    for match in _NON_SPACE.finditer(rest):
        chunk = match.group().rstrip(".:!?")
        zone = find_zone(chunk) if "/" in chunk else None
        if zone is not None:
            entities.zones.append(zone)
        elif _FILE.fullmatch(re.split(r"[/\\]", chunk)[-1]) or _PATH.fullmatch(chunk):
            entities.files.append(chunk)
        else:
            continue
        rest = rest[: match.start()] + " " * len(match.group()) + rest[match.end() :]
    entities.files = _unique(entities.files)
    rest = _QUOTED.sub(lambda match: " " * len(match.group()), rest)
    entities.expressions = [match.group().strip() for match in _ARITHMETIC.finditer(rest)]
    entities.numbers = _find_numbers(rest)
    _collect_names(rest, entities)
    entities.zones = _unique(entities.zones)
    return entities


def _find_numbers(text: str) -> list[Number]:
    decimal_comma = is_portuguese(text)
    numbers: list[tuple[int, Number]] = []
    for match in _NUMBER.finditer(text):
        digits = match.group()
        if decimal_comma and "," in digits and "." not in digits:
            digits = digits.replace(",", ".")
        digits = digits.replace(",", "")
        value = float(digits) if "." in digits else int(digits)
        numbers.append((match.start(), _with_context(value, text, match.start(), match.end())))
    numbers += [
        (match.start(), _with_context(_NUMBER_WORDS[fold(match.group())], text, match.start(), match.end()))
        for match in _WORD.finditer(text)
        if fold(match.group()) in _NUMBER_WORDS
    ]
    return [number for _, number in sorted(numbers, key=lambda at: at[0])]


def _with_context(value: int | float, text: str, start: int, end: int) -> Number:
    before = _WORD.findall(text[max(0, start - 40) : start])
    after = _WORD.match(text[end : end + 40].lstrip())
    near = bool(before) and text[max(0, start - 40) : start].rstrip(" =:").endswith(before[-1])
    return Number(value, stem(fold(before[-1])) if near else "", stem(fold(after.group())) if after else "")


def _collect_names(text: str, entities: Entities) -> None:
    """Collect capitalized words; the first word of a sentence only if it names a place."""
    for match in _PROPER_NOUN.finditer(text):
        words = match.group().split()
        before = text[: match.start()].rstrip(" \t*_#>(-")
        opens_sentence = not before or before.endswith((".", "!", "?", ":", "\n"))
        if opens_sentence and find_zone(" ".join(words)) is None and find_zone(words[0]) is None:
            words = words[1:]
        while words and fold(words[0]) in STOP_WORDS:
            words = words[1:]
        if not words:
            continue
        phrase = " ".join(words).rstrip("'’-").removesuffix("'s").removesuffix("’s")
        if (zone := find_zone(phrase)) is not None:
            entities.zones.append(zone)
        entities.names.append(phrase)
    for match in _AFTER_PREPOSITION.finditer(text):
        phrase = match[1].removesuffix("'s")
        if (zone := find_zone(phrase)) is not None:
            entities.zones.append(zone)
        if (phrase[0].isupper() and fold(phrase) not in STOP_WORDS) or zone is not None:
            entities.places.append(phrase)
    entities.names, entities.places = _unique(entities.names), _unique(entities.places)
