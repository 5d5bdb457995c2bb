"""``readlocalfile`` in a process that has little memory and little of a processor for it.

The processes are forks of one that has imported what reads files, which takes a second.
"""

from __future__ import annotations

import multiprocessing
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from createagents_nb.builtin_tools import ReadLocalFileTool

__all__ = ["read_bounded"]

_SIZE = Path("/proc/self/statm")
_BYTES = 1_000_000_000
_SECONDS = 20
_READERS = ["bounded_reader", "pandas", "pyarrow.parquet", "openpyxl", "pypdf", "yaml"]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(_READERS)


def read_bounded(folder: Path, name: str, **arguments: Any) -> str:
    """What is told of a file, by a process that has 1 GB of memory and 20 s of a processor for it."""
    if not _SIZE.exists():
        pytest.skip(f"no {_SIZE}, and so no way to bound the memory")
    ours, theirs = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_read, args=(folder, {"path": name} | arguments, theirs))
    process.start()
    theirs.close()
    process.join()
    with ours:
        assert process.exitcode == 0, f"{name} took too much: exit code {process.exitcode}"
        told: str = ours.recv()
    return told


def _read(folder: Path, arguments: dict[str, Any], told: Connection) -> None:
    used = int(_SIZE.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _BYTES,) * 2)
    seconds = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + _SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        text = ReadLocalFileTool(root=folder).execute(**arguments)
    except ValueError as error:
        text = f"{type(error).__name__}: {error}"
    told.send(text[:2000])
