"""Logging: ours only, silent by default, keys redacted."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from family import run_script

from createagents_nb import LoggingConfig
from createagents_nb.redaction import Secret, redact


@pytest.fixture(autouse=True)
def silent_again() -> Iterator[None]:
    yield
    LoggingConfig.reset()


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


def test_silent_by_default_and_other_loggers_are_not_touched() -> None:
    done = run_script("""
        import asyncio, logging
        def state():
            loggers = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
            ours = ("createagents_nb",)
            others = {name: one for name, one in loggers.items() if not name.startswith(ours)}
            return {name: (one.level, list(one.handlers), list(one.filters), one.propagate, one.disabled)
                    for name, one in others.items() if isinstance(one, logging.Logger)}
        import openai, aiohttp
        before = state()
        from createagents_nb import CreateAgent, LoggingConfig
        async def main():
            response = await CreateAgent("demo", "no-such-model").chat("hello")
            await response.wait()
            print(response.status)
        asyncio.run(main())
        LoggingConfig.get_logger("quiet").error("not printed")
        after = {name: known for name, known in state().items() if name in before}
        assert after == before
        LoggingConfig.configure(level="DEBUG")
        LoggingConfig.reset()
        assert {name: known for name, known in state().items() if name in before} == before
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "error\n", "")


def test_configure_prints_ours_and_only_ours(printed: io.StringIO) -> None:
    LoggingConfig.configure(level="DEBUG", handler=logging.StreamHandler(printed))
    LoggingConfig.get_logger("createagents_nb.agent.chat").debug("mine")
    logging.getLogger("httpx").error("not mine")
    (line,) = printed.getvalue().splitlines()
    assert line.endswith("DEBUG createagents_nb.agent.chat: mine")


def test_the_level_decides_and_info_is_the_default(printed: io.StringIO) -> None:
    LoggingConfig.configure(handler=logging.StreamHandler(printed))
    LoggingConfig.get_logger().debug("no")
    LoggingConfig.get_logger().info("yes")
    assert printed.getvalue().endswith("createagents_nb: yes\n")
    assert len(printed.getvalue().splitlines()) == 1


def test_configuring_again_replaces_the_handler(printed: io.StringIO) -> None:
    other = io.StringIO()
    LoggingConfig.configure(handler=logging.StreamHandler(other))
    LoggingConfig.configure(handler=logging.StreamHandler(printed))
    LoggingConfig.get_logger().warning("once")
    assert (other.getvalue(), len(printed.getvalue().splitlines())) == ("", 1)
    LoggingConfig.reset()
    LoggingConfig.get_logger().warning("silent")
    assert len(printed.getvalue().splitlines()) == 1


def test_a_handler_keeps_its_own_format(printed: io.StringIO) -> None:
    handler = logging.StreamHandler(printed)
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    LoggingConfig.configure(handler=handler)
    LoggingConfig.get_logger().warning("hello")
    assert printed.getvalue() == "<hello>\n"


def test_an_unknown_level_is_an_error_and_changes_nothing() -> None:
    with pytest.raises(ValueError, match="NOISY"):
        LoggingConfig.configure(level="NOISY")
    LoggingConfig.reset()
    assert logging.getLogger("createagents_nb").level == logging.NOTSET


def test_a_name_from_outside_is_put_below_ours() -> None:
    assert LoggingConfig.get_logger("__main__").name == "createagents_nb.__main__"
    assert LoggingConfig.get_logger("createagents_nb.agent").name == "createagents_nb.agent"
    assert LoggingConfig.get_logger().name == "createagents_nb"
    assert LoggingConfig.get_logger("x") is LoggingConfig.get_logger("x")


def test_keys_are_redacted_in_messages_arguments_and_tracebacks(printed: io.StringIO) -> None:
    LoggingConfig.configure(handler=logging.StreamHandler(printed))
    logger = LoggingConfig.get_logger("keys")
    logger.info("key is %s", "sk-proj-abcdefghijklmnop")
    logger.info("Authorization: Bearer abcdef0123456789")
    try:
        raise RuntimeError("refused api_key=abcdef0123456789")
    except RuntimeError:
        logger.exception("failed")
    text = printed.getvalue()
    assert "abcdef" not in text
    assert text.count("***") == 4  # the line that raised is shown too
    assert "RuntimeError: refused api_key=***" in text


def test_arguments_that_do_not_fit_are_for_logging_to_report() -> None:
    done = run_script("""
        from createagents_nb import LoggingConfig
        LoggingConfig.configure()
        LoggingConfig.get_logger().info("%d rows", "many")
        print("goes on")
    """)
    assert done.stdout == "goes on\n"
    assert "--- Logging error ---" in done.stderr


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("sk-abcdefgh12345678", "***"),
        ("the key sk-proj-a_b-c123456789 was refused", "the key *** was refused"),
        ("Bearer abcdef123456", "Bearer ***"),
        ('{"api_key": "abcdef123456"}', '{"api_key": "***"}'),
        ("x-api-key=abcdef123456", "x-api-key=***"),
        (
            "nothing to hide: 12 tokens, a task-list, skip-links",
            "nothing to hide: 12 tokens, a task-list, skip-links",
        ),
    ],
)
def test_what_looks_like_a_key_is_redacted_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize("key", ["two words and 1 number", "line 1\nand line 2", "a pass phrase of words alone"])
def test_a_key_in_use_may_have_blanks(key: str) -> None:
    Secret(key).mask()
    assert redact(f"it is {key}.") == "it is ***."


def test_a_key_that_is_known_is_redacted_whatever_it_looks_like() -> None:
    assert redact("refused: hunter22", "hunter22") == "refused: ***"
    assert redact("refused: abc", "abc", None, "") == "refused: abc"
