"""The "model": messages and tools in, a reply out. No I/O, clock or randomness: same input, same reply."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import fill_arguments, fill_schema
from .canned_answers import INTRO, answer_about_table, pick_answer, quote_line, shorten_line
from .conversation import AnswerOptions, ChatMessage, DemoReply, Tool, ToolCall
from .stemming import fold, is_portuguese
from .tool_selection import best_tool, extract_prose, select_tools, split_steps

__all__ = ["answer"]

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MEMORY_QUESTION = re.compile(
    r"\b(?:remember|(?:what )?did i (?:just )?(?:ask|say|tell|write)|i (?:just )?(?:asked|said|told)"
    r"|(?:my|the) (?:previous|last|earlier|first) (?:question|message|prompt)"
    r"|lembra\w*|o que (?:foi que )?eu (?:perguntei|disse|falei|escrevi)|eu (?:perguntei|disse)"
    r"|(?:minha|a) (?:ultima|primeira) (?:pergunta|mensagem)|(?:pergunta|mensagem) anterior)\b"
)
_FAILURE = re.compile(
    r"(?i)\W{0,3}(?:error|erro|failed|failure|exception|traceback|unknown tool|no tool|there is no tool"
    r"|invalid (?:json|arguments?)|timed? ?out|\w{1,60}(?:Error|Exception):"
    r"|(?:the )?tool\b.{0,80}\b(?:failed|raised|does not exist|timed out|was (?:not|cancelled|rejected)))"
)
# How agents of this package report the user's decision on a call.
_REJECTION = re.compile(r"(?:The user|This call was) rejected\b")
_EDITED_ARGUMENTS = re.compile(r"The user changed the arguments to (.*?)\n\n", re.DOTALL)
_TABLE_RULE = re.compile(r"\s*\|(?:\s*:?-+:?\s*\|)+\s*")
_MAX_LINES = 30
_MAX_CHARS = 2000


@dataclass(frozen=True, slots=True)
class _CurrentTurn:
    """The last question, the earlier ones, and the rounds of calls with their results since the last."""

    question: str
    earlier_questions: tuple[str, ...]
    rounds: tuple[tuple[tuple[ToolCall, str | None], ...], ...]

    @property
    def results(self) -> list[tuple[ToolCall, str | None]]:
        return [pair for pairs in self.rounds for pair in pairs]


def answer(
    messages: Sequence[ChatMessage], tools: Sequence[Tool] = (), options: AnswerOptions | None = None
) -> DemoReply:
    """Reply to the last message with tool calls or text.

    Each step of the question ("… then …") that matches tools is a round of calls. After the last round, or if no
    tool matches, the reply is text.

    >>> answer([ChatMessage("user", "Show 3 rows")], [Tool("rows", "First rows of the table")]).tool_calls
    (ToolCall(name='rows', arguments={}, id=None),)
    """
    options = options or AnswerOptions()
    turn = _parse_turn(messages)
    calls = _next_calls(turn, tools, options)
    language = "pt" if is_portuguese(turn.question) else "en"
    if calls:
        return DemoReply(
            tool_calls=calls, reasoning=_make_reasoning(turn, calls, "tools", language) if options.think else ""
        )
    kind, content = _answer_text(turn, options, language)
    return DemoReply(content, reasoning=_make_reasoning(turn, (), kind, language) if options.think else "")


def _parse_turn(messages: Sequence[ChatMessage]) -> _CurrentTurn:
    questions = [index for index, message in enumerate(messages) if message.role == "user"]
    last = questions[-1] if questions else -1
    rounds: list[tuple[tuple[ToolCall, str | None], ...]] = []
    for index in range(last + 1, len(messages)):
        if messages[index].tool_calls:
            end = next((n for n in range(index + 1, len(messages)) if messages[n].role != "tool"), len(messages))
            rounds.append(_pair_results(messages[index].tool_calls, messages[index + 1 : end]))
    return _CurrentTurn(
        question=messages[last].content if questions else "",
        earlier_questions=tuple(messages[index].content for index in questions[:-1]),
        rounds=tuple(rounds),
    )


def _pair_results(
    calls: Sequence[ToolCall], results: Sequence[ChatMessage]
) -> tuple[tuple[ToolCall, str | None], ...]:
    """Pair each call with its result: by id, else by name, else by position."""
    remaining = list(results)
    pairs: list[tuple[ToolCall, str | None]] = []
    for call in calls:
        matchers = (
            lambda message, call=call: call.id is not None and message.tool_call_id == call.id,
            lambda message, call=call: message.tool_call_id is None and message.name == call.name,
            lambda message: message.tool_call_id is None and message.name is None,
        )
        result = next((message for matches in matchers for message in remaining if matches(message)), None)
        if result is not None:
            remaining.remove(result)
        pairs.append((call, result.content if result else None))
    return tuple(pairs)


def _next_calls(turn: _CurrentTurn, tools: Sequence[Tool], options: AnswerOptions) -> tuple[ToolCall, ...]:
    if not tools or options.tool_choice == "none":
        return ()
    text = extract_prose(turn.question)
    done = len(turn.rounds)
    offered = [tool for tool in tools if options.forced_tool in (None, tool.name)]
    steps = [(step, matched) for step in split_steps(text) if (matched := select_tools(offered, step))]
    if not steps and (matched := select_tools(offered, text)):
        steps = [(text, matched)]
    if done == 0 and offered and (options.forced_tool or (options.tool_choice == "required" and not steps)):
        steps = [(text, [best_tool(offered, text)])]
    if done >= len(steps):
        return ()
    step, matched = steps[done]
    earlier = _last_number(turn.rounds[-1]) if turn.rounds else None
    return tuple(
        ToolCall(tool.name, arguments)
        for tool in matched
        for arguments in fill_arguments(tool, step, text, earlier=earlier)
    )


def _last_number(results: Sequence[tuple[ToolCall, str | None]]) -> float | None:
    """Return the last result that is a number, for "then multiply it by 2"."""
    texts = [_EDITED_ARGUMENTS.sub("", result or "", count=1) for _, result in results]
    matches = [re.fullmatch(r"\s*(-?\d{1,15}(?:\.\d+)?)\s*", text) for text in texts]
    values = [float(match[1]) if "." in match[1] else int(match[1]) for match in matches if match]
    return values[-1] if values else None


def _answer_text(turn: _CurrentTurn, options: AnswerOptions, language: str) -> tuple[str, str]:
    question = " ".join(_CODE_BLOCK.sub(" ", extract_prose(turn.question)).split()) or turn.question
    if options.json_schema is not None:
        return "JSON", _answer_json(options.json_schema, question, language)
    parts = [INTRO[language]]
    if turn.results:
        parts += [
            quote_line(question),
            _results_heading(turn.results, language),
            _format_results(turn.results, language),
        ]
        return "results", "\n\n".join(parts) + "\n"
    if _MEMORY_QUESTION.search(fold(question)):
        return "memory", "\n\n".join([*parts, quote_line(question), *_answer_from_memory(turn, language)]) + "\n"
    table = answer_about_table(turn.question, language)
    kind, text = ("table", table) if table else pick_answer(question, language)
    parts += [quote_line(question)] if question else []
    return kind, "\n\n".join([*parts, text.strip()]) + "\n"


def _answer_from_memory(turn: _CurrentTurn, language: str) -> list[str]:
    if not turn.earlier_questions:
        return [
            {"en": "This is the first message I was sent.", "pt": "Esta é a primeira mensagem que recebi."}[
                language
            ]
        ]
    count = len(turn.earlier_questions)
    number = {
        "en": f"Messages of yours before this one, as they were sent along: {count}. The last was:",
        "pt": f"Mensagens suas antes desta, como vieram junto: {count}. A última foi:",
    }[language]
    return [number, quote_line(turn.earlier_questions[-1], 300)]


def _answer_json(schema: Any, question: str, language: str) -> str:
    if schema.get("properties") or schema.get("type") not in (None, "object"):
        return json.dumps(fill_schema(schema, question), ensure_ascii=False)
    return json.dumps({"demo": INTRO[language].strip("*"), "question": question[:300]}, ensure_ascii=False)


def _results_heading(results: Sequence[tuple[ToolCall, str | None]], language: str) -> str:
    rejected = [_REJECTION.match(text or "") is not None for _, text in results]
    if all(rejected):
        return {"en": "No tool ran:", "pt": "Nenhuma tool rodou:"}[language]
    if any(rejected):
        return {"en": "What became of your tools:", "pt": "O que foi feito das suas tools:"}[language]
    return {"en": "Your tools really ran:", "pt": "As suas tools rodaram de verdade:"}[language]


def _format_results(results: Sequence[tuple[ToolCall, str | None]], language: str) -> str:
    """Format short results as list items, the others as separate blocks."""
    items = [_format_result(call, text, language) for call, text in results]
    groups = itertools.groupby(items, key=lambda item: item.startswith("- "))
    return "\n\n".join(("\n" if is_list else "\n\n").join(group) for is_list, group in groups)


def _format_result(call: ToolCall, text: str | None, language: str) -> str:
    signature = _format_call(call.name, call.arguments)
    if text is None:
        return (
            f"- {signature}: {'no result was sent back' if language == 'en' else 'nenhum resultado veio de volta'}"
        )
    if _REJECTION.match(text):
        words = {
            "en": "was **rejected**, and did not run. A model reads",
            "pt": "foi **rejeitada** e não rodou. Um modelo lê",
        }
        return f"- {signature} {words[language]}: {_inline_code(shorten_line(text, 160))}"
    if edited := _EDITED_ARGUMENTS.match(text):
        signature = _format_call(call.name, _decode_object(edited[1]))
        signature += {"en": ", as you edited it,", "pt": ", como você editou,"}[language]
        text = text[edited.end() :]
    if failed := _is_failure(text):
        words = {"en": "failed, it said", "pt": "falhou e disse"}
    else:
        words = {"en": "returned", "pt": "devolveu"}
    verb = words[language]
    if not text.strip():
        return f"- {signature} {verb} {'nothing' if language == 'en' else 'nada'}"
    shown, note = _truncate(text.strip("\n"), language)
    lines = shown.splitlines()
    if len(lines) == 1 and len(shown) <= 160:
        return f"- {signature} {'**' + verb + '**' if failed else verb} {_inline_code(shown)}"
    return f"{signature} {'**' + verb + '**' if failed else verb}:\n\n{_format_blocks(shown)}{note}"


def _format_call(name: str, arguments: Mapping[str, Any] | None) -> str:
    """Format a call on one line, without arguments if they are unknown."""
    inner = "…"
    if arguments is not None:
        inner = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return _inline_code(shorten_line(f"{name}({inner})", 120))


def _decode_object(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # long arguments are cut
        return None
    return value if isinstance(value, dict) else None


def _is_failure(text: str) -> bool:
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and bool(value.get("error"))
    return _FAILURE.match(text) is not None


def _truncate(text: str, language: str) -> tuple[str, str]:
    lines = text.splitlines()
    kept: list[str] = []
    size = 0
    for line in lines[:_MAX_LINES]:
        line = line if len(line) <= _MAX_CHARS else line[:_MAX_CHARS] + "…"
        size += len(line)
        if kept and size > _MAX_CHARS:
            break
        kept.append(line)
    more = len(lines) - len(kept)
    if not more:
        return "\n".join(kept), ""
    return "\n".join(kept), f"\n\n*({more} more lines)*" if language == "en" else f"\n\n*(mais {more} linhas)*"


def _format_blocks(text: str) -> str:
    """Keep Markdown tables, and put everything else in code blocks."""
    lines = text.splitlines()
    table_lines: set[int] = set()
    for index, line in enumerate(lines):
        if index and _TABLE_RULE.fullmatch(line) and lines[index - 1].lstrip().startswith("|"):
            end = next((n for n in range(index, len(lines)) if not lines[n].lstrip().startswith("|")), len(lines))
            table_lines.update(range(index - 1, end))
    groups = itertools.groupby(range(len(lines)), key=table_lines.__contains__)
    blocks = ((is_table, "\n".join(lines[index] for index in group)) for is_table, group in groups)
    return "\n\n".join(
        block if is_table else _code_block(block.strip("\n")) for is_table, block in blocks if block.strip()
    )


def _backticks(text: str, minimum: int) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(minimum, longest + 1)


def _inline_code(text: str) -> str:
    ticks = _backticks(text, 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _code_block(text: str) -> str:
    ticks = _backticks(text, 3)
    try:
        kind = "json" if isinstance(json.loads(text), (dict, list)) else "text"
    except (ValueError, RecursionError):
        kind = "text"
    return f"{ticks}{kind}\n{text}\n{ticks}"


def _make_reasoning(turn: _CurrentTurn, calls: Sequence[ToolCall], kind: str, language: str) -> str:
    question = shorten_line(turn.question, 60)
    if language == "pt":
        doing = (
            f"As palavras pedem {', '.join(call.name for call in calls)}."
            if calls
            else f"Resposta pronta: {kind}."
        )
        return f"A pergunta é “{question}”. Não penso: procuro palavras. {doing}\n"
    doing = (
        f"Its words ask for {', '.join(call.name for call in calls)}."
        if calls
        else f"The canned answer for it: {kind}."
    )
    return f"The question is “{question}”. I do not think, I look for words. {doing}\n"
