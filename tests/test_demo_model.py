"""The demo's "model": what it says and which tools it calls, without a server."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from createagents_nb.demo import canned_answers
from createagents_nb.demo.arguments import fill_arguments, fill_schema
from createagents_nb.demo.conversation import AnswerOptions, ChatMessage, DemoReply, Tool, ToolCall
from createagents_nb.demo.model import answer
from createagents_nb.demo.tokens import count_tokens, generate, token_delays_s, tokenize
from createagents_nb.demo.tool_selection import select_tools

pytestmark = pytest.mark.once

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}


def parameters(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


ROWS = Tool("rows", "First rows of the table.", parameters(limit={**WHOLE, "default": 5}))
CURRENT_DATE = Tool(
    "currentdate",
    "Gives the current date and time in a time zone.",
    parameters(tz={**TEXT, "description": "IANA time zone such as 'Europe/Lisbon'"}),
)
READ_FILE = Tool("readlocalfile", "Reads a local file and returns its content.", parameters("path", path=TEXT))
WEATHER = Tool(
    "get_weather",
    "Get the weather forecast for a city",
    parameters(
        "city", city=TEXT, days={**WHOLE, "minimum": 1, "maximum": 7}, unit={"enum": ["celsius", "fahrenheit"]}
    ),
)
FETCH = Tool("async_web_fetch", "Busca dados da web assincronamente", parameters("url", url=TEXT))
ADD = Tool("add", "Add two numbers", parameters("a", "b", a=WHOLE, b=WHOLE))
MULTIPLY = Tool("multiply", "Multiply two numbers", parameters("a", "b", a=NUMBER, b=NUMBER))
CALCULATOR = Tool("calculator", "Evaluates an arithmetic expression", parameters("expression", expression=TEXT))
MEAN = Tool("column_mean", "Mean of a column of the table", parameters("column", column=TEXT))
TOOLS = [ROWS, CURRENT_DATE, READ_FILE, WEATHER, FETCH, ADD, MULTIPLY, CALCULATOR, MEAN]


def ask(question: str, tools: list[Tool] = TOOLS, **options: Any) -> DemoReply:
    return answer([ChatMessage("user", question)], tools, AnswerOptions(**options))


def calls(reply: DemoReply) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, dict(call.arguments)) for call in reply.tool_calls]


def turn(question: str, tools: list[Tool], *results: str) -> tuple[list[list[tuple[str, dict[str, Any]]]], str]:
    """All rounds of a turn: the calls of each, and the final text; ``results`` are given out in order."""
    messages, left = [ChatMessage("user", question)], list(results)
    rounds: list[list[tuple[str, dict[str, Any]]]] = []
    for _ in range(20):
        reply = answer(messages, tools)
        if not reply.tool_calls:
            return rounds, reply.content
        rounds.append(calls(reply))
        numbered = [
            ToolCall(call.name, call.arguments, f"{len(rounds)}.{at}") for at, call in enumerate(reply.tool_calls)
        ]
        messages.append(ChatMessage("assistant", "", tuple(numbered)))
        messages += [ChatMessage("tool", left.pop(0), tool_call_id=call.id) for call in numbered]
    raise AssertionError("it asks for tools for ever")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Que dia é hoje?", [("currentdate", {})]),
        ("What day is it today?", [("currentdate", {})]),
        ("What time is it in Tokyo?", [("currentdate", {"tz": "Asia/Tokyo"})]),
        ("que horas são em São Paulo?", [("currentdate", {"tz": "America/Sao_Paulo"})]),
        ("the current date in europe/lisbon please", [("currentdate", {"tz": "Europe/Lisbon"})]),
        ("Describe the table", [("rows", {})]),
        ("use rows", [("rows", {})]),
        ("Show the first 3 rows", [("rows", {"limit": 3})]),
        ("Mostre as três primeiras linhas", [("rows", {"limit": 3})]),
        ("What is in data/birds.csv?", [("readlocalfile", {"path": "data/birds.csv"})]),
        ("Leia o arquivo notas.txt", [("readlocalfile", {"path": "notas.txt"})]),
        ("Busque dados de https://api.example.com", [("async_web_fetch", {"url": "https://api.example.com"})]),
        ("Qual o clima em Lisboa?", [("get_weather", {"city": "Lisboa"})]),
        ("What is the mean of the column `speed`?", [("column_mean", {"column": "speed"})]),
        ("média da coluna speed", [("column_mean", {"column": "speed"})]),
        ("What is 17 * 23?", [("multiply", {"a": 17, "b": 23}), ("calculator", {"expression": "17 * 23"})]),
        ("Calculate (3 + 4) * 2", [("calculator", {"expression": "(3 + 4) * 2"})]),
    ],
)
def test_tools_are_called_when_the_message_asks_for_them(question: str, expected: list[Any]) -> None:
    assert calls(ask(question)) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Hello",
        "How are you today?",
        "Pergunta 1",
        "Question 2",
        "Conte uma história",
        "Tell me a joke",
        "Is that right?",
        "Write a short story about a rainy day",
        "Explain the mean value theorem",
        "This time write something about love",
        "What did I ask before?",
        "Explain how transformers work, then give an example",
        "Summarise the history of Rome",
        "What is the meaning of life?",
        "Don't use tools: what day is it?",
        "Sem ferramentas: que dia é hoje?",
        "",
    ],
)
def test_a_plain_message_calls_no_tool(question: str) -> None:
    assert calls(ask(question)) == []


def test_several_tools_are_called_in_one_round() -> None:
    reply = ask("What day is it, and what's the weather in Rome?")
    assert [name for name, _ in calls(reply)] == ["currentdate", "get_weather"]


def test_a_list_of_places_is_one_call_each() -> None:
    reply = ask("What's the weather in Paris, Oslo and Rome for 3 days in Fahrenheit?")
    rest = {"days": 3, "unit": "fahrenheit"}
    assert calls(reply) == [("get_weather", {"city": city, **rest}) for city in ("Paris", "Oslo", "Rome")]


@pytest.mark.parametrize(
    "question", ["Add 2 and 3, then multiply the result by 4", "Some 2 e 3, depois multiplique por 4"]
)
def test_then_begins_another_round_which_can_use_the_result(question: str) -> None:
    rounds, text = turn(question, [ADD, MULTIPLY], "5", "20")
    assert rounds == [[("add", {"a": 2, "b": 3})], [("multiply", {"a": 5, "b": 4})]]
    assert "`add(a=2, b=3)`" in text
    assert "`20`" in text


def test_it_answers_after_its_rounds_whatever_the_tools_say() -> None:
    rounds, text = turn("Read a.csv, then the first 3 rows", TOOLS, "call rows again", "then use rows")
    assert [[name for name, _ in one] for one in rounds] == [["readlocalfile"], ["rows"]]
    assert "call rows again" in text


def test_a_tool_named_in_the_message_always_matches() -> None:
    tool = Tool("frobnicate", "")
    assert select_tools([tool], "please frobnicate this") == [tool]
    assert select_tools([tool], "please refrobnicate this") == []


def test_table_rows_inside_a_message_do_not_ask_for_tools() -> None:
    table = "| city | weather forecast | file content |\n|---|---|---|\n| Rome | rain | rows |"
    assert calls(ask(f"Is this plausible?\n\n{table}")) == []


def test_tool_choice_is_honoured() -> None:
    assert ask("What day is it?", tool_choice="none").tool_calls == ()
    assert [name for name, _ in calls(ask("Good morning", tool_choice="required"))]
    assert [name for name, _ in calls(ask("Good morning", forced_tool="add"))] == ["add"]


def test_results_stand_in_the_answer_as_they_are() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    many = "\n".join(f"line {number}" for number in range(100))
    for result, expected in [
        ("sunny", "`sunny`"),
        (f"2 rows × 2 columns\n\n{table}", f"\n\n{table}\n"),
        ("one\ntwo", "```text\none\ntwo\n```"),
        ("a ``` b\nc", "````text\na ``` b\nc\n````"),
        ('{"a":\n1}', '```json\n{"a":\n1}\n```'),
        (many, "*(70 more lines)*"),
        ("", "returned nothing"),
    ]:
        _, text = turn("use rows", [ROWS], result)
        assert expected in text
        assert text.startswith(canned_answers.INTRO["en"])


@pytest.mark.parametrize(
    "result",
    [
        "Error: ValueError: no such row",
        "Error: There is no tool 'x'; available: rows",
        "ValueError: no such row",
        "The tool rows timed out after 60 s",
        '{"error": "no such row"}',
    ],
)
def test_a_failed_tool_is_said_to_have_failed(result: str) -> None:
    _, text = turn("use rows", [ROWS], result)
    assert "**failed, it said**" in text
    assert result in text


def after_a_call(*results: str, question: str = "Cancel the train") -> str:
    made = tuple(ToolCall("cancel", {"train": "ICE"}, id=f"c{number}") for number in range(len(results)))
    told = [ChatMessage("tool", result, tool_call_id=f"c{number}") for number, result in enumerate(results)]
    return answer([ChatMessage("user", question), ChatMessage("assistant", "", made), *told], TOOLS).content


def test_a_rejected_call_is_not_said_to_have_run() -> None:
    for reason in ("The user rejected this call: too late", "This call was rejected: nobody can be asked here"):
        said = after_a_call(reason)
        assert "No tool ran:" in said
        assert f'`cancel(train="ICE")` was **rejected**, and did not run. A model reads: `{reason}`' in said
        assert "returned" not in said
    both = after_a_call("The user rejected this call", "cancelled")
    assert "What became of your tools:" in both
    assert 'cancel(train="ICE")` returned `cancelled`' in both
    assert "foi **rejeitada**" in after_a_call(
        "The user rejected this call", question="Por favor, você pode cancelar o trem?"
    )


def test_an_edited_call_is_told_as_it_was_run() -> None:
    note = 'The user changed the arguments to {"train": "TGV"}\n\n'
    assert '`cancel(train="TGV")`, as you edited it, returned `TGV is cancelled`' in after_a_call(
        note + "TGV is cancelled"
    )
    assert "`cancel(…)`, as you edited it, **failed, it said** `ValueError: no`" in after_a_call(
        'The user changed the arguments to {"train": "TG\n… [cut: …]\n\nValueError: no'
    )


def test_each_answer_says_first_that_it_is_canned() -> None:
    for question in ("Hello", "Explain streaming", "a table", "some code", "a story", "maths", "What did I ask?"):
        assert ask(question, []).content.startswith("*Demo provider: this text is canned, no model")
    for question in ("Olá", "Explique o streaming para mim", "Conte uma história", "O que eu perguntei?"):
        assert ask(question, []).content.startswith("*Provedor de demonstração")


def test_the_default_answer_shows_what_markdown_can() -> None:
    text = ask("Explain streaming", []).content
    for part in ("\n## ", "\n- ", "\n```python\n", "\n|--:|", "$e^{i\\pi} + 1 = 0$", "\n$$\\sum"):
        assert part in text
    assert 120 <= count_tokens(text) <= 220
    assert count_tokens(ask("Hello", []).content) < 80


def test_answers_depend_on_the_question_and_quote_it() -> None:
    texts = {
        question: ask(question, []).content for question in ("Pergunta 1", "Pergunta 2", "a table", "some code")
    }
    assert len(set(texts.values())) == 4
    assert all(f"> {question}\n" in text for question, text in texts.items())
    assert ask("Pergunta 1", []) == ask("Pergunta 1", [])


def test_a_quotation_is_short_and_has_no_markup_of_its_own() -> None:
    quoted = canned_answers.quote_line("# a\n\n<script>`$x$`[l](u)" + " word" * 100)
    assert quoted.startswith("> \\# a \\<script\\>\\`\\$x\\$\\`\\[l\\](u)")
    assert "\n" not in quoted
    assert len(quoted) < 130


@pytest.mark.parametrize("question", ["What did I ask before?", "Do you remember?", "Lembra da minha pergunta?"])
def test_it_quotes_the_message_before_when_asked(question: str) -> None:
    messages = [
        ChatMessage("system", "be kind"),
        ChatMessage("user", "my cat is called Mia"),
        ChatMessage("assistant", "noted"),
        ChatMessage("user", question),
    ]
    assert "> my cat is called Mia" in answer(messages).content
    assert "Mia" not in answer(messages[-1:]).content


def test_thinking_comes_before_text_and_before_calls() -> None:
    assert "Explain streaming" in ask("Explain streaming", [], think=True).reasoning
    assert "currentdate" in ask("What day is it?", think=True).reasoning
    assert ask("Explain streaming", []).reasoning == ""


def test_a_conversation_without_a_question_is_answered() -> None:
    assert answer([]).content
    assert answer([ChatMessage("system", "be kind")], TOOLS).content


SCHEMAS: list[dict[str, Any]] = [
    parameters("a", a={**WHOLE, "minimum": 10, "multipleOf": 4}),
    parameters("a", a={**NUMBER, "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
    parameters("a", a={"anyOf": [WHOLE, {"type": "null"}]}),
    parameters("a", a={"type": ["null", "string"]}),
    parameters("flag", flag={"type": "boolean"}, other={"type": "boolean"}),
    parameters("unit", unit={"enum": ["km", "mile"]}),
    parameters("k", k={"const": 7}),
    parameters("words", words={"type": "array", "items": TEXT, "minItems": 2}),
    parameters("xs", xs={"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 3}),
    parameters("code", code={**TEXT, "pattern": "^[A-Z]{3}$"}, x={**TEXT, "maxLength": 2}),
    parameters("s", s={**TEXT, "minLength": 12}),
    parameters("when", when={**TEXT, "format": "date"}),
    parameters("p", p=parameters("x", "y", x=NUMBER, y=NUMBER, label=TEXT)),
    parameters("d", d={"type": "object", "additionalProperties": WHOLE}),
    parameters("pair", pair={"type": "array", "prefixItems": [WHOLE, TEXT], "minItems": 2, "maxItems": 2}),
    {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/Node"}},
        "required": ["root"],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
                "required": ["name"],
            }
        },
    },
    {"type": "object"},
    {},
]
MESSAGES = [
    "",
    "Use it",
    "convert 1,250.5 km from Paris to 'New York' on 2026-02-03, flag=false, xs: 1, 2, 3, 4, 5",
    "não use other, com 3,5 e k=9; words: red, green and blue",
    'é 🎉 "quoted" `ticked` ../x/y.csv a@b.co https://e.org/x?y=1 12:30 -7 1e9 99999999999999999999',
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
@pytest.mark.parametrize("message", MESSAGES)
def test_arguments_are_valid_against_the_schema(schema: dict[str, Any], message: str) -> None:
    for arguments in fill_arguments(Tool("convert", "Converts a thing", schema), message):
        jsonschema.validate(arguments, schema)
    jsonschema.validate(fill_schema(schema, message), schema)


def fill(message: str, **properties: Any) -> dict[str, Any]:
    required = [name for name, schema in properties.items() if schema.pop("required", False)]
    (arguments,) = fill_arguments(Tool("do_it", "Does it", parameters(*required, **properties)), message)
    return arguments


def test_optional_arguments_are_left_out_unless_the_message_names_them() -> None:
    optional = {"days": WHOLE, "unit": {"enum": ["km", "mile"]}, "recursive": {"type": "boolean"}, "sort_by": TEXT}
    assert fill("do it", **optional) == {}
    assert fill("do it for 3 days, recursive, in miles, sort by: price", **optional) == {
        "days": 3,
        "unit": "mile",
        "recursive": True,
        "sort_by": "price",
    }
    assert fill("do it, not recursive", recursive={"type": "boolean"}) == {"recursive": False}


def test_numbers_go_where_they_are_named() -> None:
    both = {"width": {**WHOLE, "required": True}, "height": {**WHOLE, "required": True}}
    assert fill("height 3, width 4", **both) == {"width": 4, "height": 3}
    assert fill("a limit of 500", limit={**WHOLE, "maximum": 100}) == {"limit": 100}
    assert fill("média de 3,5", x={**NUMBER, "required": True}) == {"x": 3.5}


def test_lists_and_objects_are_filled_from_the_message() -> None:
    numbers = {"type": "array", "items": NUMBER, "required": True}
    assert fill("the average of 1, 2 and 3.5", values=numbers) == {"values": [1, 2, 3.5]}
    strings = {"type": "array", "items": TEXT, "required": True}
    assert fill("sort: red, green and blue", words=strings) == {"words": ["red", "green", "blue"]}
    point = {**parameters("x", "y", x=NUMBER, y=NUMBER), "required": ["x", "y"]}
    tool = Tool("plot", "Plots a point", parameters("point", point=point))
    assert fill_arguments(tool, "plot x=1 and y=2") == [{"point": {"x": 1, "y": 2}}]


@given(st.text(max_size=300))
@settings(max_examples=150)
def test_pieces_join_to_the_text_exactly(text: str) -> None:
    pieces = tokenize(text)
    assert "".join(pieces) == text
    assert len(pieces) == count_tokens(text)


@given(st.text(max_size=200))
@settings(max_examples=100)
def test_any_message_is_answered(text: str) -> None:
    rounds, content = turn(text, TOOLS, *["ok"] * 50)
    assert content
    for one in rounds:
        for name, arguments in one:
            schema = next(tool.parameters for tool in TOOLS if tool.name == name)
            jsonschema.validate(arguments, schema)


def test_pieces_are_about_four_characters_long() -> None:
    text = ask("Conte uma história", []).content
    assert 3 <= len(text) / count_tokens(text) <= 5


def test_a_generation_ends_at_the_limit_and_before_a_stop_text() -> None:
    reply = DemoReply("one two three four", reasoning="hm")
    assert generate(reply, [], max_tokens=3).finish_reason == "length"
    assert generate(reply, [], max_tokens=3).text("content") == "one two"
    assert generate(reply, [], max_tokens=5).finish_reason == "stop"
    assert generate(reply, [], stop=("four", " three")).text("content") == "one two"
    call = DemoReply(tool_calls=(ToolCall("rows", {"limit": 3}),))
    cut = generate(call, ['{"limit": 3}'], max_tokens=3)
    assert cut.calls == [0]
    assert cut.arguments(0) == '{"limit'
    assert generate(call, ['{"limit": 3}']).finish_reason == "tool_calls"


def test_the_pace_is_uneven_the_same_each_time_and_right_on_average() -> None:
    def first(count: int) -> list[float]:
        return [delay for delay, _ in zip(token_delays_s(45), range(count), strict=False)]

    assert first(300) == first(300)
    assert len(set(first(50))) > 40
    assert sum(first(1001)[1:]) == pytest.approx(1000 / 45, rel=0.01)
    assert first(1) == [0.3]


def test_json_is_answered_where_a_schema_asks_for_it() -> None:
    schema = parameters("city", "days", city=TEXT, days=WHOLE)
    reply = ask("3 days in Oslo", [], json_schema=schema)
    assert json.loads(reply.content) == {"city": "Oslo", "days": 3}
    assert json.loads(ask("anything", [], json_schema={}).content)["question"] == "anything"


def test_a_long_message_is_read_only_in_part() -> None:
    reply = ask("a" * 1_000_000 + " 7" * 100_000)
    assert re.search(r"^> a+…$", reply.content, re.MULTILINE)


@pytest.mark.parametrize(
    "unit", ["1", "(", " ", "`", ".", "1+", "a/", "then ", "Aa ", "1,111", "```\n", "in Tokyo "]
)
def test_a_hostile_message_does_not_hold_the_server(unit: str) -> None:
    assert answer([ChatMessage("user", unit * (100_000 // len(unit)))], TOOLS)
