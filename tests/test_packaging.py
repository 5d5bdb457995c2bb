"""What the wheel and the source archive hold, built from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "createagents_nb"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def source_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with tarfile.open(build("sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


def package_files(pattern: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob(pattern) if "node_modules" not in path.parts
    }


def test_every_module_and_the_type_marker_ship(wheel: zipfile.ZipFile) -> None:
    assert "createagents_nb/py.typed" in wheel.namelist()
    assert package_files("*.py") <= set(wheel.namelist())


def test_what_the_page_loads_ships(wheel: zipfile.ZipFile) -> None:
    static = {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "notebook" / "static").iterdir()}
    assert any(name.endswith(".js") for name in static)
    assert static <= set(wheel.namelist())


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: zipfile.ZipFile) -> None:
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert tops == {"createagents_nb", "createagents_nb-0.1.0.dist-info"}
    parts = {part for name in wheel.namelist() for part in PurePosixPath(name).parts}
    assert not parts & {"tests", "shared", "node_modules", "__pycache__", ".ipynb_checkpoints"}


def test_metadata_names_version_pythons_extras_and_licence(metadata: Message) -> None:
    assert metadata["Name"] == "createagents-nb"
    assert metadata["Version"] == "0.1.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert {"dask", "files", "lab", "dev"} <= set(metadata.get_all("Provides-Extra", []))


def test_what_only_developers_need_is_not_required(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.split(";")[0].strip().split(" ")[0].split(">")[0].split("[")[0].lower() for line in required}
    assert {"ipython", "ipywidgets", "anywidget", "openai", "ollama", "pandas", "msgspec"} <= names
    assert not names & {"jupyterlab", "notebook", "pytest", "playwright", "pyarrow", "ruff", "uv"}


def test_the_source_archive_is_enough_to_build_and_test(source_names: set[str]) -> None:
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/test_packaging.py"} <= source_names
    assert package_files("*.py") <= source_names
    assert not any(name.startswith(("shared/", ".venv", "out/")) for name in source_names)
