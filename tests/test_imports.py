"""The front door is light, its names are there, and imports point down only."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import createagents_nb

ROOT = Path(__file__).resolve().parents[1]

HEAVY = {
    "IPython",
    "aiohttp",
    "anywidget",
    "dask",
    "distributed",
    "httpx",
    "httpx2",
    "ipykernel",
    "ipywidgets",
    "nest_asyncio",
    "nest_asyncio2",
    "numpy",
    "ollama",
    "openai",
    "pandas",
    "pydantic",
    "requests",
    "tqdm",
    "traitlets",
}


def top_level_modules_after(code: str) -> set[str]:
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_no_jupyter_pandas_pydantic_http_or_sdk_module() -> None:
    # What a .pth file of the environment loads into every interpreter is not ours.
    loaded = top_level_modules_after("import createagents_nb") - top_level_modules_after("")
    assert "createagents_nb" in loaded
    assert not loaded & HEAVY


def test_logging_and_errors_are_light_too() -> None:
    loaded = top_level_modules_after("from createagents_nb import CreateAgentsError, LoggingConfig")
    assert not (loaded - top_level_modules_after("")) & HEAVY


def test_all_is_sorted_and_without_repetition() -> None:
    assert list(createagents_nb.__all__) == sorted(set(createagents_nb.__all__))


@pytest.mark.parametrize("name", createagents_nb.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(createagents_nb, name) is not None
    assert name in dir(createagents_nb)


def test_star_import_brings_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from createagents_nb import *", names)
    assert set(createagents_nb.__all__) <= names.keys()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        createagents_nb.no_such_name  # noqa: B018


def test_version_is_that_of_the_installed_distribution() -> None:
    assert distribution("createagents-nb").version == createagents_nb.__version__


def test_the_package_under_test_is_the_installed_one() -> None:
    installed = distribution("createagents-nb")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    in_place = origin.get("dir_info", {}).get("editable", False)
    expected = ROOT / "createagents_nb" if in_place else Path(str(installed.locate_file("createagents_nb")))
    assert Path(createagents_nb.__file__).parent.resolve() == expected.resolve()


def test_imports_point_down_only() -> None:
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
