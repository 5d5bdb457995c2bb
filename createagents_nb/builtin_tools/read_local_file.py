"""Reading a file of the user's, inside one folder."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path
from typing import Any

from ..agent.tools import BaseTool

__all__ = ["ReadLocalFileTool"]


class ReadLocalFileTool(BaseTool):
    """Reads text, CSV, TSV, JSON, JSON Lines, YAML, Excel, Parquet and PDF files inside one folder.

    Nothing outside the folder can be reached, also not through ``..`` or a link. Hidden files (``.env``, ``.ssh``)
    are refused: a notebook's folder is often the home folder, and a model's answer may travel.

    Args:
        root: the folder; default the current working directory at the time of the call.
        max_bytes: largest file that is read; default 20 MiB.
        max_rows: rows of a table, or lines of a text, in one answer at most; default 1,000.
        hidden: also read files and folders whose name starts with a dot.

    Excel, Parquet and PDF need ``pip install 'createagents-nb[files]'``.

    Example:
        >>> CreateAgent(tools=[ReadLocalFileTool(root="data")])
    """

    name = "readlocalfile"
    description = (
        "Reads a local file, or lists a folder, and returns its content as text: plain text, source code, "
        "Markdown, CSV, TSV, JSON, JSONL, YAML, Excel (.xlsx), Parquet and PDF. "
        "Tables come with shape, column types and their first rows."
    )
    parameters: dict[str, Any] = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "path of the file, relative to the allowed folder"},
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "first row (of a table) or line (of a text) to show, counted from 0; default 0",
            },
            "max_rows": {
                "type": "integer",
                "minimum": 1,
                "description": "how many rows or lines to show; default 20 rows or 1000 lines",
            },
            "sheet": {"type": "string", "description": "Excel only: name of the sheet; default the first"},
        },
        "required": ["path"],
        "additionalProperties": False,
    }

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        max_bytes: int = 20 * 1024 * 1024,
        max_rows: int = 1000,
        hidden: bool = False,
    ) -> None:
        if max_bytes < 1 or max_rows < 1:
            raise ValueError("max_bytes and max_rows must be 1 or more")
        self._root = root
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._hidden = hidden

    def execute(self, path: str, offset: int = 0, max_rows: int | None = None, sheet: str | None = None) -> str:
        """The file as text.

        Raises:
            PermissionError: outside the folder, hidden, or not readable.
            FileNotFoundError: no such file, with the closest names.
            ValueError: too large, binary, not a regular file, or not what its suffix says.
            ModuleNotFoundError: its format needs the extra ``files``.
        """
        from .file_readers import Window, read

        root = Path(self._root if self._root is not None else Path.cwd()).expanduser().resolve()
        target = self._inside(root, path)
        mode = self._mode(root, target, path)
        if stat.S_ISDIR(mode):
            return self._listing(root, target)
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path!r} is not a regular file but a device, pipe or socket")
        data = self._bytes(target, path)
        rows = min(max_rows, self._max_rows) if max_rows else None
        window = Window(offset=offset, rows=rows, most=self._max_rows)
        return f"{target.relative_to(root).as_posix()}: {read(target.suffix.lower(), data, window, sheet)}"

    def _inside(self, root: Path, path: str) -> Path:
        """The real place of ``path``. What is outside is refused before it is looked at."""
        if not path.strip() or "\0" in path:
            raise ValueError("path is empty or has a null character: give the path of a file")
        try:
            target = (root / path).resolve()
        except (OSError, RuntimeError):  # links in a circle, until Python 3.12
            raise ValueError(f"{path!r} cannot be followed: it is a link that leads to itself") from None
        if not target.is_relative_to(root):
            raise PermissionError(
                f"{path!r} is outside the allowed folder: give a path inside it, such as 'data.csv'"
            )
        if not self._hidden and any(part.startswith(".") for part in target.relative_to(root).parts):
            raise PermissionError(
                f"{path!r} is hidden, and hidden files are not read: ask the user for its content"
            )
        return target

    def _mode(self, root: Path, target: Path, path: str) -> int:
        try:
            return target.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no file {path!r}; {self._near(target)}") from None
        except PermissionError as error:
            raise PermissionError(f"{path!r} may not be read: {error.strerror}") from None
        except OSError as error:  # links in a circle, a name that is too long
            raise ValueError(f"{path!r} cannot be followed: {error.strerror}") from None

    def _bytes(self, target: Path, path: str) -> bytes:
        # Without following or waiting: it might have become a link or a pipe since it was looked at.
        flags = os.O_RDONLY
        for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"):
            flags |= getattr(os, flag, 0)
        try:
            descriptor = os.open(target, flags)
        except OSError as error:
            raise PermissionError(f"{path!r} may not be read: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            data = file.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise ValueError(
                f"{path!r} has {info.st_size:,} bytes, more than the {self._max_bytes:,} that are read: "
                "use a smaller file"
            )
        return data

    def _names(self, folder: Path) -> list[str]:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return []
        return [
            entry.name + "/" * entry.is_dir()
            for entry in entries
            if self._hidden or not entry.name.startswith(".")
        ]

    def _listing(self, root: Path, folder: Path) -> str:
        names = self._names(folder)
        more = f"\n… and {len(names) - 200:,} more" if len(names) > 200 else ""
        where = folder.relative_to(root).as_posix()
        return f"{where} is a folder with {len(names):,} entries:\n" + "\n".join(names[:200]) + more

    def _near(self, target: Path) -> str:
        folder = target.parent
        if not folder.is_dir():
            return "nor its folder. Give '.' as path to see what there is"
        names = self._names(folder)
        close = difflib.get_close_matches(target.name, names, n=3, cutoff=0.5) or names[:10]
        return f"there are: {', '.join(close)}" if close else "its folder is empty"
