"""Selecting the tools that a message asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .conversation import Tool
from .entities import Entities, extract_entities
from .schema import resolve, string_kind, tool_vocabulary
from .stemming import STOP_WORDS, content_words, fold, same_word

__all__ = ["best_tool", "extract_prose", "select_tools", "split_steps"]

_THRESHOLD = 1.0
_MAX_HALF_CHARS = 2000

_STEP_SEPARATOR = re.compile(
    r"(?i)[\s,;.]{0,8}(?:\b(?:and|e)\s{1,8})?"
    r"(?:\b(?:then|after\s+that|afterwards|finally|em\s+seguida|a\s+seguir|por\s+fim|ent[ãa]o)\b"
    r"|\bdepois\b(?!\s+(?:de|do|da|dos|das|que)\b)(?:\s+disso)?|(?<=[.;!?])\s*\b(?:next)\b)[\s,:]*"
)
_NO_TOOLS = re.compile(
    r"(?i)\b(?:without|no|don'?t use|do not use|sem|n[ãa]o use)\s+(?:any\s+|the\s+|as\s+|nenhuma\s+)?"
    r"(?:tools?|ferramentas?)\b"
)
_GREETING = re.compile(r"\b(?:how are you|how is it going|tudo bem|como vai|como voce esta|what'?s up)\b")

_NOW_QUESTION = re.compile(
    r"\b(?:(?:what|which) (?:day|date|time|weekday|year|month)\b|(?:day|date|time) is (?:it|today)"
    r"|today'?s (?:date|day)|current (?:date|day|time|year)|(?:what'?s|what is|tell me) the (?:date|time|day)\b"
    r"|local time|time (?:now|in [a-z])|(?:que|qual) (?:e )?(?:o |a )?(?:dia|data|horas?|ano|mes)\b"
    r"|data (?:de hoje|atual|e hoje)|dia (?:de|e) hoje|horas? (?:sao|atual))"
)
_CLOCK_WORDS = frozenset(
    {"date", "day", "time", "datetime", "clock", "today", "now", "data", "hora", "hoje", "dia", "horas"}
)
_NOW_WORDS = frozenset({"current", "now", "today", "atual", "agora", "hoje", "todays", "local"})
_OPERATORS = (
    (re.compile(r"[\d)]\s*(?:\*(?!\*)|×|x)\s*[\d(]|\b(?:times|vezes)\s+\d"), {"multipli"}),
    (re.compile(r"[\d)]\s*\+\s*[\d(]|\d\s+(?:plus|mais)\s+\d|\b(?:some|soma)\s+\d"), {"add"}),
    (re.compile(r"[\d)]\s+-\s+[\d(]|\d\s+(?:minus|menos)\s+\d"), {"subtract"}),
    (re.compile(r"[\d)]\s*[/÷]\s*[\d(]|\d\s+over\s+\d|\bdivida\s+\d"), {"divid"}),
    (re.compile(r"[\d)]\s*(?:\^|\*\*)\s*[\d(]"), {"power", "exponent"}),
)
_ARITHMETIC = {"calculat", "calculator", "arithmetic", "arithmetical", "expression"}
_COUNTING = re.compile(r"\b(?:how many|number of|quantos|quantas)\b")


def extract_prose(message: str) -> str:
    """Remove table rows from a message, and the middle of one that is longer than 4,000 characters."""
    lines = (line for line in message.splitlines() if not line.lstrip().startswith("|"))
    text = "\n".join(lines)
    return text if len(text) <= 2 * _MAX_HALF_CHARS else f"{text[:_MAX_HALF_CHARS]}\n{text[-_MAX_HALF_CHARS:]}"


def split_steps(message: str) -> list[str]:
    """Split "first this, then that" into steps.

    >>> split_steps("Read a.csv, then show 3 rows")
    ['Read a.csv', 'show 3 rows']
    """
    return [step for part in _STEP_SEPARATOR.split(message) if (step := part.strip(" ,;"))]


def _is_mentioned(tool: Tool, text: str) -> bool:
    name = re.escape(tool.name)
    if len(tool.name) <= 2 or fold(tool.name) in STOP_WORDS:
        return re.search(rf"`{name}`|\b{name}\(|\b(?:use|call|tool|chame|ferramenta)\s+{name}\b", text) is not None
    return re.search(rf"(?i)(?<![\w-]){name}(?![\w-])", text) is not None


def _asks_for_now(tool: Tool, folded: str) -> bool:
    words = {fold(word) for word in re.findall(r"[^\W_]+", f"{tool.name} {tool.description}")}
    name = fold(tool.name)
    is_clock = bool(words & _CLOCK_WORDS and words & _NOW_WORDS) or any(
        left in name and right in name
        for left in ("date", "time", "data", "hora")
        for right in ("current", "now", "atual")
    )
    return is_clock and _NOW_QUESTION.search(folded) is not None


def _entity_score(tool: Tool, entities: Entities) -> tuple[float, bool, bool]:
    """Score a tool by the entities that fit its parameters.

    Also returns whether the message has the required files, URLs and so on, and whether it has everything
    required.
    """
    score, complete, fillable = 0.0, True, True
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return 0.0, True, True
    required = tool.parameters.get("required") or ()
    for name, raw in properties.items():
        schema = resolve(raw, tool.parameters)
        kind = string_kind(name, schema) if schema.get("type", "string") == "string" else str(schema.get("type"))
        by_kind = {
            "url": entities.urls,
            "file": entities.files,
            "zone": entities.zones,
            "email": entities.emails,
            "date": entities.dates,
        }
        weight = {"url": 1.0, "file": 1.0, "zone": 0.5, "email": 0.5, "date": 0.25}
        if kind in by_kind:
            score += weight[kind] if by_kind[kind] else 0.0
            complete = complete and (bool(by_kind[kind]) or name not in required)
        elif name in required and kind in ("place", "other"):
            fillable = fillable and bool(
                entities.quoted or entities.names or entities.places or schema.get("enum")
            )
    return score, complete, complete and fillable


def _score(tool: Tool, text: str, entities: Entities) -> float:
    folded = fold(text).replace("’", "'")
    name, described, parameters = tool_vocabulary(tool)
    vocabulary = {*name, *described}
    if _asks_for_now(tool, folded):
        return 2.0
    entity_score, complete, fillable = _entity_score(tool, entities)
    operations = [words for pattern, words in _OPERATORS if pattern.search(folded)]
    if len(operations) == 1 and vocabulary & operations[0]:
        return 2.0
    if entities.expressions and vocabulary & _ARITHMETIC:
        return 1.5
    summary = content_words(re.split(r"(?<=[.;:])\s", tool.description)[0])
    in_name = {1: 1.0, 2: 0.7}.get(len(name), 0.5)
    best = 0.0
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        words = content_words(sentence)
        if _COUNTING.search(fold(sentence)):
            words.append("count")
        score, about = 0.0, 0
        for word in dict.fromkeys(words):
            if any(same_word(word, other) for other in name):
                score, about = score + in_name, about + 1
            elif any(same_word(word, other) for other in described):
                score += 0.5
                about += any(same_word(word, other) for other in summary)
            elif any(same_word(word, other) for other in parameters):
                score += 0.35
        # A short request about nothing but the tool: "Describe the table".
        if about and fillable and len(words) <= 4 and about / len(words) >= 0.6:
            score = max(score, _THRESHOLD)
        best = max(best, score)
    # Without a required file or URL, the words must match better.
    return best + entity_score - (0.0 if complete else 0.3)


def select_tools(tools: Sequence[Tool], text: str) -> list[Tool]:
    """Select the tools that ``text`` asks for, in the order in which they were offered.

    A tool whose name is in the text always matches. Otherwise the words of each sentence are scored against its
    name, description and parameters, and the entities in the text against its parameters.
    """
    mentioned = [tool for tool in tools if _is_mentioned(tool, text)]
    if _NO_TOOLS.search(text):
        return []
    if _GREETING.search(fold(text)):
        return mentioned
    entities = extract_entities(text)
    return [tool for tool in tools if tool in mentioned or _score(tool, text, entities) >= _THRESHOLD]


def best_tool(tools: Sequence[Tool], text: str) -> Tool:
    """Select the tool with the highest score, for a request that must call one."""
    entities = extract_entities(text)
    return max(tools, key=lambda tool: (_is_mentioned(tool, text), _score(tool, text, entities)))
