"""Find Chromium for the browser tests, install it if possible, and print its path.

Tries, in order: ``$CHROMIUM``; a Chromium or Chrome on PATH; as root on Debian or Ubuntu, the system package;
Playwright's build. If none works, prints advice and exits with status 1. Progress goes to stderr.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")
ADVICE = (
    "The browser tests need Chromium, and none was found or could be installed. Install the package chromium (or "
    "Google Chrome), run `.venv/bin/python -m playwright install --with-deps chromium`, or set "
    "CHROMIUM=/path/to/chromium. Then run the tests again."
)


def ensure_chromium() -> str | None:
    """Return the path of a Chromium that starts, installing one if necessary; None if that fails."""
    return _on_this_machine() or _from_system_packages() or _from_playwright()


def _on_this_machine() -> str | None:
    configured = os.environ.get("CHROMIUM")
    if configured:
        path = shutil.which(configured)
        if path and _starts(path):
            return path
        _log(f"CHROMIUM={configured} does not start: looking for another.")
    paths = (shutil.which(name) for name in NAMES)
    return next((path for path in paths if path and _starts(path)), None)


def _from_system_packages() -> str | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    _log(f"Installing {' and '.join(PACKAGES)} with apt-get …")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    update = ["apt-get", "update", "-qq"]
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    if not (_run(update, quiet) and _run(install, quiet)):
        return None
    # Ubuntu's package only installs a snap, which does not start in a container.
    path = shutil.which("chromium")
    return path if path and _starts(path) else None


def _from_playwright() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).exists():
        _log("Installing Playwright's Chromium …")
        with_dependencies = ["--with-deps"] if os.geteuid() == 0 else []
        _run([sys.executable, "-m", "playwright", "install", *with_dependencies, "chromium"])
    return path if Path(path).exists() and _starts(path) else None


def _starts(path: str) -> bool:
    # Even --version fails if shared libraries are missing.
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _run(command: list[str], environment: dict[str, str] | None = None) -> bool:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    return done.returncode == 0


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    chromium = ensure_chromium()
    if chromium is None:
        sys.exit(ADVICE)
    print(chromium)
