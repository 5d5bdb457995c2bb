"""Opening what is inside a folder, whatever becomes of the way to it meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["open_inside"]

# A folder on the way is entered with O_PATH, which needs no right to list it.
_FOLDER_FLAGS = (
    os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
)
# Without following or waiting: it might have become a link or a pipe since it was looked at.
_TARGET_FLAGS = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
    _TARGET_FLAGS |= getattr(os, _flag, 0)


@contextmanager
def open_inside(root: Path, target: Path) -> Iterator[int | Path]:
    """A descriptor of ``target``, reached step by step without following a link; closed at the end.

    A folder is its path where the system opens no folders, as on Windows.

    Args:
        root: the folder, as `Path.resolve` gives it.
        target: the place of a file or folder in it, as `Path.resolve` gives it.

    Raises:
        ValueError: it is a device, a pipe or a socket. Those are not opened: to open one can do things by itself.
        OSError: as `os.open`; also when a part of the way has become a link.
    """
    has_steps = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
    if not has_steps and target.is_dir():
        yield target
        return
    opened = _open_by_steps(root, target) if has_steps else _open_checked(target)
    try:
        yield opened
    finally:
        os.close(opened)


def _open_by_steps(root: Path, target: Path) -> int:
    *folders, name = target.relative_to(root).parts or (".",)
    here = os.open(root, _FOLDER_FLAGS)
    try:
        for folder in folders:
            deeper = os.open(folder, _FOLDER_FLAGS, dir_fd=here)
            os.close(here)
            here = deeper
        _check_mode(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
        opened = os.open(name, _TARGET_FLAGS, dir_fd=here)
    finally:
        os.close(here)
    try:
        _check_mode(os.fstat(opened).st_mode)
    except ValueError:
        os.close(opened)
        raise
    return opened


def _open_checked(target: Path) -> int:
    _check_mode(target.lstat().st_mode)
    opened = os.open(target, _TARGET_FLAGS)
    if target.resolve() == target and os.path.samestat(os.fstat(opened), target.lstat()):
        return opened
    os.close(opened)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_mode(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("is not a regular file but a device, pipe or socket")
