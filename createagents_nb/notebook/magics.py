"""The magics ``%%agent`` and ``%agent``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from .. import bridge
from ..agent.response import StreamingResponseDTO
from ..errors import MagicUsageError
from . import display
from .options import CELL_MANUAL, CellOptions, cell_options

if TYPE_CHECKING:
    from ..create_agent import CreateAgent
    from .commands import Commands
    from .registry import AgentRegistry

__all__ = ["AgentMagics"]


_CELL_MANUAL = f"""Send the cell to an agent and stream its answer.

{CELL_MANUAL}
The cell's value is the response: `_.text`, `await _`. In the prompt, {{{{expr}}}} is replaced by the value of a
Python expression; a DataFrame comes as its shape, dtypes and head.

`--preview` shows the prompt and the whole request; keys are masked in it, and nothing is sent.

Example:
    %%agent -t rows -o answer
    Which columns of {{{{df}}}} have missing values?
"""


def _with_docstring(docstring: str) -> Any:
    def decorate(function: Any) -> Any:
        function.__doc__ = docstring
        return function

    return decorate


@magics_class
class AgentMagics(Magics):
    """The magics of ``%load_ext createagents_nb``."""

    shell: InteractiveShell

    # Imported on first use, so that %load_ext is fast.

    @cached_property
    def registry(self) -> AgentRegistry:
        from .registry import AgentRegistry

        return AgentRegistry(self.shell.user_ns)

    @cached_property
    def commands(self) -> Commands:
        from .commands import Commands

        return Commands(self.shell, self.registry)

    # no_var_expand: IPython would expand {braces} and $names itself.

    @no_var_expand
    @cell_magic("agent")
    @_with_docstring(_CELL_MANUAL)
    def agent_cell(self, line: str, cell: str) -> StreamingResponseDTO | None:
        # Called only where the cell cannot await: inside %%time, %%capture or run_cell_magic.
        return bridge.run(self.run(line, cell))

    async def run(self, line: str, cell: str) -> StreamingResponseDTO | None:
        """Run a ``%%agent`` cell: ask, show the answer while it streams, and return the response.

        Args:
            line: the options after ``%%agent``.
            cell: the prompt.

        Raises:
            MagicUsageError: an option is wrong, or the cell is empty.
            InterpolationError: a placeholder cannot be filled in.
        """
        options = cell_options(line)
        if not cell.strip():
            raise MagicUsageError("%%agent: the cell is empty. Write the prompt below the %%agent line")
        prompt = cell.replace("\r\n", "\n").rstrip("\n")
        if not options.raw:
            from .interpolation import interpolate

            prompt = interpolate(prompt, self.shell.user_ns)
        if options.preview:
            display.show_preview(prompt, lambda: self._agent(options))
            return None
        response = await self._agent(options).chat(prompt)
        try:
            await display.watch(response)
        finally:
            if options.output is not None and (response.text or response.status == "ok"):
                self.shell.user_ns[options.output] = response.text
        return response

    def _agent(self, options: CellOptions) -> CreateAgent:
        """Return the agent that the options name, or a variant of it for this cell."""
        agent = self.registry.find(options.name)
        tools = self.registry.tools(options.tools)
        if not (options.provider or options.model or tools or options.no_history or options.no_stream):
            return agent
        return agent.variant(
            options.provider,
            options.model,
            tools=tools,
            config={"stream": False} if options.no_stream else None,
            keep_history=not options.no_history,
        )

    @no_var_expand
    @line_magic("agent")
    @_with_docstring("Look after the agents of this notebook; `%agent help` lists what it can do.")
    def agent_line(self, line: str) -> Any:
        return self.commands.run(line)
