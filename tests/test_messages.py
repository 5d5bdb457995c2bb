"""Messages of parts: text, images and files, and the opaque details that go back to their server."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from family import Ledger, ScriptedProvider, png

from createagents_nb import Agent, ChatWithAgentUseCase
from createagents_nb.core.events import ProviderDetails, ReplySource, RoundEnded, ToolCallRequested
from createagents_nb.core.messages import (
    FilePart,
    ImagePart,
    Message,
    TextPart,
    check_messages,
    without_foreign_details,
)
from createagents_nb.core.token_estimate import estimate_chars
from createagents_nb.errors import InvalidMessageError
from createagents_nb.tools.tool import tool

PICTURE = ImagePart(png(640, 480), "image/png")
HERE = ReplySource("https://api.example", "m", "a" * 64)
THERE = replace(HERE, server="https://other.example")


def test_a_message_is_made_from_a_string_as_ever() -> None:
    message = Message("user", "Hello")
    assert message.content == message.text == message.description == "Hello"
    assert message.parts == (TextPart("Hello"),)
    assert repr(message) == "Message('user', 'Hello')"
    assert message == Message("user", [TextPart("Hello")]) == Message("user", parts=(TextPart("Hello"),))


def test_text_is_the_text_parts_and_description_names_the_others() -> None:
    message = Message(
        "user", ["Compare", PICTURE, FilePart(b"%PDF-1.7", "application/pdf", name="a.pdf"), "with this"]
    )
    assert message.text == "Compare\nwith this"
    first, image, file, last = message.description.split("\n")
    assert (first, last) == ("Compare", "with this")
    assert image.startswith("<image/png, 640 × 480, ")
    assert "a.pdf" in file
    assert "application/pdf" in file


def test_an_address_is_described_without_its_query() -> None:
    image = ImagePart(url="https://files.example/a.png?signature=abc", media_type="image/png")
    assert str(image) == "<image/png at https://files.example/a.png>"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImagePart(),
        lambda: ImagePart(b"x", "image/png", url="https://a.example"),
        lambda: ImagePart(b"x"),
        lambda: ImagePart(b"x", "png"),
        lambda: ImagePart("x", "image/png"),  # type: ignore[arg-type]
        lambda: FilePart(url=3),  # type: ignore[arg-type]
    ],
)
def test_a_part_that_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"ImagePart|FilePart"):
        make()


def test_a_message_is_frozen_copied_pickled_and_replaced() -> None:
    details = ProviderDetails(HERE, {"signature": "abc"})
    message = Message("user", ["Look", PICTURE], provider_details=details)
    with pytest.raises(FrozenInstanceError):
        message.content = "You must obey."  # type: ignore[misc]
    assert copy.deepcopy(message) == pickle.loads(pickle.dumps(message)) == message
    assert replace(message, status="error").parts == message.parts
    assert replace(message, content="Other").parts == (TextPart("Other"),)


def test_a_part_without_a_word_makes_no_empty_message() -> None:
    answer = Message("assistant", "ok")
    check_messages([Message("user", PICTURE), answer])
    with pytest.raises(ValueError, match=r"messages\[0\] is empty"):
        check_messages([Message("user", ["", " \n"]), answer])


def test_the_size_of_an_image_is_estimated_and_not_counted_in_bytes() -> None:
    text, image = Message("user", "four"), Message("user", ImagePart(b"x" * 10_000_000, "image/png"))
    assert estimate_chars([text]) == 4
    assert 1_000 < estimate_chars([image]) < 10_000


def test_details_are_never_shown() -> None:
    details = ProviderDetails(HERE, {"signature": "opaque-value"})
    call = ToolCallRequested("a", "f", "{}", details)
    message = Message("assistant", "", (call,), provider_details=details)
    for shown in (repr(message), repr(call), repr(details), repr(RoundEnded(provider_details=details))):
        assert "opaque-value" not in shown


@pytest.mark.parametrize(
    "other", [THERE, replace(HERE, model="m2"), replace(HERE, key_fingerprint="b" * 64), None]
)
def test_details_go_back_to_the_server_model_and_key_that_wrote_them(other: ReplySource | None) -> None:
    details = ProviderDetails(HERE, {"signature": "abc"})
    foreign = ProviderDetails(THERE, {"signature": "xyz"})
    calls = (ToolCallRequested("a", "f", "{}", details), ToolCallRequested("b", "f", "{}", foreign))
    messages = [Message("user", "hi"), Message("assistant", "", calls, provider_details=details)]
    _, kept = without_foreign_details(messages, {HERE})
    assert kept.provider_details == details
    assert [call.provider_details for call in kept.tool_calls] == [details, None]
    if other != THERE:
        _, stripped = without_foreign_details(messages, {other} if other else ())
        assert (stripped.provider_details, stripped.tool_calls[0].provider_details) == (None, None)
    assert without_foreign_details(messages[:1], ())[0] is messages[0]


@pytest.mark.asyncio
async def test_a_turn_takes_parts_and_its_record_names_them(provider: ScriptedProvider) -> None:
    agent, ledger = Agent(name="a", model="m"), Ledger()
    provider.enqueue("A cat.")
    chat = ChatWithAgentUseCase(provider, sink=ledger)
    await (await chat.execute(agent, ["What is this?", PICTURE]))
    assert provider.calls[0].messages[-1].parts == (TextPart("What is this?"), PICTURE)
    (record,) = ledger.settled
    assert record.prompt is not None
    assert record.prompt.startswith("What is this?\n<image/png, 640 × 480, ")
    assert agent.history.messages[0].parts[1] == PICTURE


@pytest.mark.parametrize("message", [["only text"], [3], {"role": "user"}, [PICTURE, None], b"x"])
@pytest.mark.asyncio
async def test_what_is_neither_text_nor_parts_is_refused(provider: ScriptedProvider, message: Any) -> None:
    with pytest.raises(InvalidMessageError, match="must be a string, not"):
        await ChatWithAgentUseCase(provider).execute(Agent(name="a", model="m"), message)
    assert not provider.calls


@pytest.mark.asyncio
async def test_details_of_a_reply_stay_with_its_message_and_its_calls(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "reply_sources", lambda model: frozenset({HERE}))

    @tool
    def look() -> str:
        """Looks."""
        return "seen"

    of_call, of_round, of_answer = (ProviderDetails(HERE, {"n": number}) for number in range(3))
    provider.enqueue(ToolCallRequested("a", "look", "{}", of_call), RoundEnded(provider_details=of_round))
    provider.enqueue("Done.", RoundEnded(provider_details=of_answer))
    provider.enqueue("Again.")
    agent = Agent(name="a", model="m", tools=(look,))
    chat = ChatWithAgentUseCase(provider)
    await (await chat.execute(agent, "go"))
    await (await chat.execute(agent, "and now?"))
    for request in provider.calls[1:]:
        asked = next(message for message in request.messages if message.tool_calls)
        assert asked.provider_details == of_round
        assert asked.tool_calls[0].provider_details == of_call
    assert provider.calls[2].messages[3].provider_details == of_answer


@pytest.mark.parametrize(
    "media_type", ["image/*\r\nX-Evil: 1", " image/png ", "/", "png", "image/", "a" * 200 + "/b"]
)
def test_a_media_type_that_no_file_could_keep_is_refused(media_type: str) -> None:
    with pytest.raises(ValueError, match="needs a media type"):
        ImagePart(b"x", media_type)


def test_what_may_open_a_file_is_shown_nowhere() -> None:
    part = FilePart(url="https://user:hunter2secret@h.example:8/a.pdf?signature=abc#access_token=def")
    for shown in (str(part), repr(part), repr(Message("user", ["x", part])), Message("user", part).description):
        assert not any(secret in shown for secret in ("hunter2secret", "abc", "def", "user:"))
        assert "https://h.example:8/a.pdf" in shown


def test_a_message_with_details_can_be_hashed() -> None:
    details = ProviderDetails(HERE, {"signature": "abc"})
    assert len({Message("user", "hi", provider_details=details), Message("user", "hi")}) == 2


@pytest.mark.asyncio
async def test_details_of_others_reach_no_provider_object(provider: ScriptedProvider) -> None:
    class Own(ScriptedProvider):
        def reply_sources(self, model: str) -> frozenset[ReplySource]:
            return frozenset({HERE})

    agent, own = Agent(name="a", model="m"), Own()
    own.enqueue("One.", RoundEnded(provider_details=ProviderDetails(HERE, {"n": 1})))
    own.enqueue("Two.")
    provider.enqueue("Three.")
    for repository in (own, own, provider):
        await (await ChatWithAgentUseCase(repository).execute(agent, "go"))
    assert own.calls[1].messages[1].provider_details is not None
    assert all(message.provider_details is None for message in provider.calls[0].messages)


def test_a_data_url_is_its_data() -> None:
    part = ImagePart(url="data:image/png;base64,iVBORw0KGgo=")
    assert (part.data, part.media_type, part.url) == (b"\x89PNG\r\n\x1a\n", "image/png", None)
    with pytest.raises(ValueError, match="broken data URL"):
        ImagePart(url="data:image/png;base64,not base64!")
