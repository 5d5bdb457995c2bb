"""The tool that reads files inside one folder."""

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path
from typing import Any

from ..tools.tool import BaseTool
from .safe_open import open_inside

__all__ = ["ReadLocalFileTool"]

_CHUNK_BYTES = 1024 * 1024
_PRIVATE_KEY = re.compile(
    rb"(?:^|\r)[ \t\f\v]*+(?:-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File-)", re.MULTILINE
)


class ReadLocalFileTool(BaseTool):
    """Reads text, CSV, TSV, JSON, JSON Lines, YAML, Excel, Parquet and PDF files inside one folder.

    Nothing outside the folder can be reached through ``..`` or a link, even one created while it reads. Devices,
    pipes and sockets are not opened. Hidden files (``.env``, ``.ssh``) and private keys (PEM and PuTTY) are
    refused, because a notebook's folder is often the home folder and answers are shared. Secrets in other files
    are read like any text.

    Args:
        root: the folder; default the working directory at the time of the call.
        max_bytes: limit for the size of a file; default 20 MiB.
        max_rows: limit for the rows or lines in one result; default 1,000.
        hidden: also read private keys, and files and folders whose name starts with a dot.

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
        """Return an excerpt of a file, or the names in a folder.

        Raises:
            PermissionError: outside the folder, hidden, a private key, or not readable.
            FileNotFoundError: no such file; the message lists the closest names.
            ValueError: too large, binary, not a regular file, or its content does not match its suffix.
            ModuleNotFoundError: its format needs the extra ``files``.
        """
        from .excerpt import Window
        from .text_readers import read_content

        root = Path(self._root if self._root is not None else Path.cwd()).expanduser().resolve()
        target = self._resolve_path(root, path)
        data = self._read(root, target, path)
        if isinstance(data, str):
            return data
        rows = min(max_rows, self._max_rows) if max_rows else None
        window = Window(offset=offset, rows=rows, max_rows=self._max_rows)
        content = read_content(target.suffix.lower(), data, window, sheet)
        return f"{_printable(target.relative_to(root).as_posix())}: {content}"

    def _resolve_path(self, root: Path, path: str) -> Path:
        """Resolve ``path``. A path outside the folder is rejected before it is accessed."""
        if not path.strip() or "\0" in path:
            raise ValueError("path is empty or has a null character: give the path of a file")
        if path.replace("\\", "/").startswith("//"):  # accessing a network share sends credentials
            raise PermissionError(
                f"{path!r} is outside the allowed folder: it begins as a share of another machine"
            )
        try:
            target = (root / path).resolve()
        except UnicodeError:
            raise ValueError(f"{path!r} has characters that no name of a file can have") from None
        except (OSError, RuntimeError):  # a symlink loop, until Python 3.12
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

    def _read(self, root: Path, target: Path, path: str) -> bytes | str:
        """Return the bytes of a file, or the listing of a folder."""
        try:
            with open_inside(root, target) as opened:
                info = os.stat(opened)
                if isinstance(opened, Path) or stat.S_ISDIR(info.st_mode):
                    return self._list_folder(root, target, opened)
                return self._read_bytes(opened, info.st_size)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no file {path!r}; {self._suggest_names(root, target)}") from None
        except ValueError as error:
            raise ValueError(f"{path!r} {error}") from None
        except PermissionError as error:
            raise PermissionError(f"{path!r} {_explain(error)}") from None
        except OSError as error:  # a symlink loop, a name that is too long, an I/O error
            raise ValueError(f"{path!r} cannot be followed: {error.strerror}") from None

    def _read_bytes(self, opened: int, size: int) -> bytes:
        # The stated size may be wrong: 0 for files in /proc, too small for a file that grows.
        remaining = self._max_bytes + 1
        chunks = []
        while size <= self._max_bytes and remaining > 0:
            chunk = os.read(opened, min(remaining, _CHUNK_BYTES))
            if not chunk:
                break
            chunks.append(chunk)
            remaining -= len(chunk)
        data = b"".join(chunks)
        size = max(size, len(data))
        if size > self._max_bytes:
            raise ValueError(
                f"has {size:,} bytes, more than the {self._max_bytes:,} that are read: use a smaller file"
            )
        if not self._hidden and _is_private_key(data):
            raise PermissionError("is a private key, and those are not read")
        return data

    def _list_folder(self, root: Path, folder: Path, opened: int | Path) -> str:
        names, more = self._list_names(opened)
        rest = f"\n… and {more:,} more" if more else ""
        where = _printable(folder.relative_to(root).as_posix())
        return f"{where} is a folder with {len(names) + more:,} entries:\n" + "\n".join(names) + rest

    def _list_names(self, opened: int | Path, limit: int = 200) -> tuple[list[str], int]:
        """List the first names in a folder, folders with a ``/``; also return how many more there are."""
        with os.scandir(opened) as entries:
            visible = [entry for entry in entries if self._hidden or not entry.name.startswith(".")]
        visible.sort(key=lambda entry: entry.name)
        names = [_printable(entry.name) + "/" * _is_folder(entry) for entry in visible[:limit]]
        return names, len(visible[limit:])

    def _suggest_names(self, root: Path, target: Path) -> str:
        try:
            with open_inside(root, target.parent) as folder:
                names, _ = self._list_names(folder, 10_000)
        except (OSError, ValueError):
            return "nor its folder. Give '.' as path to see what there is"
        close = difflib.get_close_matches(target.name, names, n=3, cutoff=0.5) or names[:10]
        return f"there are: {', '.join(close)}" if close else "its folder is empty"


def _is_private_key(data: bytes) -> bool:
    """Whether a key begins on one of the first lines; openssl writes attributes above it."""
    head = data[:16_384].replace(b"\0", b"")[:4096]  # without the null bytes of UTF-16 and UTF-32
    return _PRIVATE_KEY.search(head.lstrip(b"\xef\xbb\xbf\xff\xfe")) is not None


def _explain(error: PermissionError) -> str:
    return f"may not be read: {error.strerror}" if error.strerror else str(error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _printable(name: str) -> str:
    """Escape a name that has a line break, which would look like two names."""
    return name if name.isprintable() else repr(name)[1:-1]
