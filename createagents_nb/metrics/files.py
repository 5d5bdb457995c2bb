"""Frames as files, for other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from createagents_nb.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_csv", "write_parquet"]

Frames = Mapping[str, "pd.DataFrame"]


def write_csv(frames: Frames, path: str | os.PathLike[str]) -> list[Path]:
    """See `MetricsRecorder.to_csv`."""
    return _write_each(frames, path, lambda frame, file: frame.to_csv(file, index=False))


def write_parquet(frames: Frames, path: str | os.PathLike[str]) -> list[Path]:
    """See `MetricsRecorder.to_parquet`."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'createagents-nb[files]', or use to_csv or to_json"
        ) from None
    return _write_each(frames, path, lambda frame, file: frame.to_parquet(file, index=False))


def _write_each(
    frames: Frames, path: str | os.PathLike[str], write: Callable[[pd.DataFrame, Path], object]
) -> list[Path]:
    try:
        first = Path(path).expanduser()
        paths = [
            first if name == "calls" else first.with_name(f"{first.stem}.{name}{first.suffix}") for name in frames
        ]
        for frame, file in zip(frames.values(), paths, strict=True):
            _replace(file, _encodable(frame), write)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot write the metrics to {str(path)!r}: {reason}; "
            "give a file in a folder that exists and that you may write to"
        ) from error
    return paths


def _replace(file: Path, frame: pd.DataFrame, write: Callable[[pd.DataFrame, Path], object]) -> None:
    """A file that is there stays whole until the new one is."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(handle)
    written = Path(name)
    try:
        write(frame, written)
        written.chmod(0o666 & ~_umask())  # mkstemp's is for its owner alone
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _encodable(frame: pd.DataFrame) -> pd.DataFrame:
    """Half a surrogate pair, from a model, has no UTF-8."""
    texts: list[str] = list(frame.select_dtypes("string").columns)
    return frame.assign(
        **{column: frame[column].map(_unicode, na_action="ignore").astype(frame[column].dtype) for column in texts}
    )


def _unicode(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
