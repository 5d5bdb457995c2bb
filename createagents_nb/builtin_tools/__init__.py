"""Tools that ship with the package and may be named by a string: ``tools=["currentdate"]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..tools.tool import BaseTool
from .current_date import CurrentDateTool
from .read_local_file import ReadLocalFileTool

__all__ = ["BUILTIN_TOOLS", "CurrentDateTool", "ReadLocalFileTool", "is_stock_builtin"]

BUILTIN_TOOLS: Mapping[str, Callable[[], BaseTool]] = MappingProxyType(
    {CurrentDateTool.name: CurrentDateTool, ReadLocalFileTool.name: ReadLocalFileTool}
)


def is_stock_builtin(tool: BaseTool) -> bool:
    """Whether its name alone can recreate ``tool``: a built-in tool with default settings."""
    factory = BUILTIN_TOOLS.get(tool.name)
    if factory is None:
        return False
    stock = factory()
    return type(tool) is type(stock) and vars(tool) == vars(stock)
