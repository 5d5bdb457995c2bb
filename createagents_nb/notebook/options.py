"""The options of ``%%agent`` and ``%agent``; their help texts are the manual."""

from __future__ import annotations

import argparse
import keyword
import shlex
from dataclasses import dataclass, field
from typing import NoReturn

from ..errors import MagicUsageError

__all__ = ["CELL_MANUAL", "CellOptions", "NewOptions", "cell_options", "is_name", "new_options"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split())
        manual = f"{self.prog}?" if self.prog == "%%agent" else "%agent help"
        where = "The prompt goes on the lines below. " if self.prog == "%%agent" else ""
        raise MagicUsageError(f"{self.prog}: {message}. {where}{usage}; `{manual}` is the manual")


def is_name(text: str) -> bool:
    """Whether ``text`` is a valid variable name."""
    return text.isidentifier() and not keyword.iskeyword(text)


@dataclass
class CellOptions:
    """Options of a ``%%agent`` line."""

    name: str | None = None
    provider: str | None = None
    model: str | None = None
    tools: list[str] = field(default_factory=list)
    output: str | None = None
    no_history: bool = False
    no_stream: bool = False
    raw: bool = False
    preview: bool = False


@dataclass
class NewOptions:
    """Options of a ``%agent new`` line."""

    name: str = ""
    provider: str | None = None
    model: str | None = None
    tools: list[str] = field(default_factory=list)
    instructions: str | None = None
    base_url: str | None = None


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--provider", help="openai, ollama, demo, gemini…: `%%agent list` shows all")
    parser.add_argument("-m", "--model", help="the model; openai:gpt-6-luna names both")
    parser.add_argument(
        "-t",
        "--tools",
        type=_names,
        default=[],
        metavar="F,G",
        help="functions of the notebook, or built-in tools",
    )


def _cell_parser() -> _Parser:
    parser = _Parser(prog="%%agent", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME", help="an agent; default: the notebook's own")
    _add_common(parser)
    parser.add_argument("-o", "--output", metavar="VAR", help="put the answer, if any came, into this variable")
    parser.add_argument("--no-history", action="store_true", help="neither see nor enter the conversation so far")
    parser.add_argument("--no-stream", action="store_true", help="ask for the answer in one piece")
    parser.add_argument("--raw", action="store_true", help="send the cell as it is: {{…}} is not replaced")
    parser.add_argument("--preview", action="store_true", help="show the whole request, send nothing")
    return parser


def _new_parser() -> _Parser:
    parser = _Parser(prog="%agent new", add_help=False, allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help="how `%%%%agent NAME` finds it")
    _add_common(parser)
    parser.add_argument("-i", "--instructions", help="what the agent is told before every conversation")
    parser.add_argument("--base-url", help="address of a compatible server")
    return parser


CELL_MANUAL = _cell_parser().format_help()


def cell_options(line: str) -> CellOptions:
    """Parse a ``%%agent`` line.

    Raises:
        MagicUsageError: an option is unknown, a value is missing, or quotes are unbalanced.
    """
    options = _cell_parser().parse_args(_split(line, "%%agent"), namespace=CellOptions())
    if options.output is not None and not is_name(options.output):
        raise MagicUsageError(f"%%agent: --output {options.output!r} is not a variable name")
    return options


def new_options(line: str) -> NewOptions:
    """Parse a ``%agent new`` line; raises as `cell_options` does."""
    return _new_parser().parse_args(_split(line, "%agent new"), namespace=NewOptions())


def _split(line: str, prog: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise MagicUsageError(f"{prog}: {error}: {line!r}") from None
