"""The bundle that ships is the one that its sources make."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "createagents_nb" / "notebook" / "static"


def test_the_bundle_that_ships_is_what_its_sources_make(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "build_frontend.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shipped = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(shipped) == set(built)
    assert [name for name in built if built[name] != shipped[name]] == [], "stale: run `make frontend`"


def test_the_bundle_is_small_and_every_view_carries_little_of_it() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in STATIC.glob("*.js")}
    assert sum(sizes.values()) <= 150_000
    assert (STATIC / "loader.js").stat().st_size <= 2_000
