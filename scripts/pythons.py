"""Find the Pythons on this machine that run and can build an environment for this project.

    python3 scripts/pythons.py            all of them, oldest first, one per line
    python3 scripts/pythons.py newest     the path of the newest
    python3 scripts/pythons.py oldest     the path of the oldest

Lists one interpreter per minor version. Every candidate is tested by running it: the shims of a version manager
may be on PATH and fail, and a system Python may lack ``ensurepip``. Standard library only and compatible with
Python 3.8, because it runs before there is an environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest in the project's classifiers; PYTHON=… may select a newer one

_PROBE = """
import json, platform, sys, sysconfig
import ctypes, ensurepip, sqlite3, ssl, venv
usable = sys.version_info.releaselevel == "final" and platform.python_implementation() == "CPython"
usable = usable and not sysconfig.get_config_var("Py_GIL_DISABLED")
print(json.dumps([getattr(sys, "_base_executable", sys.executable), list(sys.version_info[:3]), bool(usable)]))
"""


class Python(NamedTuple):
    version: tuple[int, int, int]
    path: str

    @property
    def minor(self) -> tuple[int, int]:
        return self.version[:2]

    def __str__(self) -> str:
        return "Python " + ".".join(map(str, self.version))


def find_pythons() -> list[Python]:
    """Return the usable interpreters from `OLDEST` to `NEWEST`, oldest first, one per minor version."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        usable = [python for python in pool.map(probe, _candidates()) if python is not None]
    by_minor: dict[tuple[int, int], Python] = {}
    for python in usable:
        best = by_minor.get(python.minor)
        if OLDEST <= python.minor <= NEWEST and (best is None or python.version > best.version):
            by_minor[python.minor] = python
    return sorted(by_minor.values())


def probe(path: str) -> Python | None:
    """Run the interpreter at ``path``; None if it does not run or cannot build an environment."""
    try:
        done = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True)
        executable, version, usable = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    major, minor, micro = version
    return Python((major, minor, micro), executable) if usable else None


def _candidates() -> list[str]:
    names = ["python3", "python"]
    names += [f"python{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    paths = [Path(sys.executable)] + [folder / name for folder in folders for name in names]
    for root in _version_manager_roots():
        paths += sorted(root.glob("*/bin/python3"))
    return [path for path in dict.fromkeys(map(str, paths)) if os.access(path, os.X_OK)]


def _version_manager_roots() -> list[Path]:
    home = Path.home()
    return [
        Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions",
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python")),
    ]


def main(arguments: list[str]) -> int:
    pythons = find_pythons()
    if not pythons:
        oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
        print(
            f"No Python from {oldest} to {newest} with venv and ensurepip was found. Install one (on Debian and "
            "Ubuntu: python3 and python3-venv), or name one: make PYTHON=/path/to/python3 …",
            file=sys.stderr,
        )
        return 1
    if arguments == ["newest"]:
        print(pythons[-1].path)
    elif arguments == ["oldest"]:
        print(pythons[0].path)
    else:
        for python in pythons:
            print(f"{python}\t{python.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
