"""Create a virtual environment and install into it: ``environment.py FOLDER --python PYTHON -- REQUIREMENT…``.

Installs with uv if pip can fetch it, and with pip otherwise. An environment with the right Python is kept, and
missing requirements are added. Standard library only: it runs before there is an environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pythons import OLDEST, Python, probe


def make_environment(folder: Path, python: Python, requirements: Sequence[str], *options: str) -> Path:
    """Create a virtual environment in ``folder``, install ``requirements`` and return the path of its interpreter.

    Args:
        folder: where the environment is or will be.
        python: the interpreter to create it from.
        requirements: as for ``pip install``.
        options: passed on to uv or pip (``--no-deps``, ``--reinstall``).

    Raises:
        subprocess.CalledProcessError: neither uv nor pip could install; their output is on the terminal.
    """
    interpreter = folder / "bin" / "python"
    existing = probe(str(interpreter)) if interpreter.exists() else None
    if existing is None or existing.version != python.version:
        print(f"{folder.name}: {python} from {python.path}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python.path, "-m", "venv", str(folder)], check=True)
    install(interpreter, requirements, *options)
    return interpreter


def install(interpreter: Path, requirements: Sequence[str], *options: str) -> None:
    """Install with uv, or with pip if uv is unavailable or cannot reach the registry."""
    pip = [str(interpreter), "-m", "pip"]
    uv = interpreter.parent / "uv"
    if not uv.exists():
        subprocess.run([*pip, "install", "--quiet", "uv"], check=False)
    if uv.exists():
        command = [str(uv), "pip", "install", "--python", str(interpreter), *options, *requirements]
        if subprocess.run(command, env=_uv_environment(pip), check=False).returncode == 0:
            return
        print("uv could not install: trying pip.", flush=True)
    pip_options = ["--force-reinstall" if option == "--reinstall" else option for option in options]
    subprocess.run([*pip, "install", *pip_options, *requirements], check=True)


def _uv_environment(pip: list[str]) -> dict[str, str]:
    """Pass pip's index on to uv, which does not read pip's configuration."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    if not any(name in environment for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")):
        configured = subprocess.run(
            [*pip, "config", "get", "global.index-url"], capture_output=True, text=True, check=False
        )
        index = environment.get("PIP_INDEX_URL") or configured.stdout.strip()
        if index:
            environment["UV_DEFAULT_INDEX"] = index
    return environment


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a virtual environment and install into it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", nargs="+", metavar="requirement")
    parser.add_argument("--python", required=True, help="the interpreter to make it from")
    arguments = parser.parse_args()
    python = probe(shutil.which(arguments.python) or arguments.python)
    if python is None or python.minor < OLDEST:
        print(
            f"{arguments.python} does not run, is older than {'.'.join(map(str, OLDEST))}, or lacks venv and "
            "ensurepip (on Debian and Ubuntu: python3-venv). Others on this machine: python3 scripts/pythons.py",
            file=sys.stderr,
        )
        return 1
    try:
        make_environment(arguments.folder, python, arguments.requirements)
    except subprocess.CalledProcessError as error:
        print(f"The environment could not be made: {' '.join(error.cmd[:4])} … failed.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
