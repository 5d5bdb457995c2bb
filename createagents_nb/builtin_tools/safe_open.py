"""Opening a file or folder that is certain to be inside another folder, without a race on symbolic links."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["open_inside"]

# O_PATH needs no permission to list the folder.
_FOLDER_FLAGS = (
    os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
)
# Neither follow nor block: the target may have become a link or a pipe since it was checked.
_TARGET_FLAGS = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
    _TARGET_FLAGS |= getattr(os, _flag, 0)


@contextmanager
def open_inside(root: Path, target: Path) -> Iterator[int | Path]:
    """Open ``target`` one path component at a time without following links; close it at the end.

    Yields a file descriptor, or the path of a folder on systems that cannot open folders, such as Windows.

    Args:
        root: the folder, resolved.
        target: a file or folder in it, resolved.

    Raises:
        ValueError: ``target`` is a device, pipe or socket, which opening alone could affect.
        OSError: as `os.open`; also if a path component has become a link.
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
