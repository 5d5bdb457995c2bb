"""Imports point down the table of rooms, and never in a circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import createagents_nb

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from draw_rooms import main as draw_rooms  # noqa: E402
from import_graph import ImportEdge, find_circles, import_edges, room_of  # noqa: E402

PACKAGE = Path(createagents_nb.__file__).parent

GROUND = ("text", "redaction", "logging_config", "errors", "loop_shutdown", "template", "bridge")
"""Files at the top of the package that every room may import; each may import those before it."""

BRIDGE_USERS = {"agent", "batch", "create_agent", "notebook"}
"""Rooms that may block in the synchronous bridge."""

ROOMS = {
    "core": set[str](),
    "tools": {"core"},
    "agent": {"core", "tools"},
    "demo": set[str](),
    "providers": {"core", "demo"},
    "wrappers": {"core", "tools"},
    "builtin_tools": {"core", "tools"},
    "render": {"core"},
    "metrics": {"core", "render"},
    "batch": {"core", "tools", "agent", "providers", "wrappers", "metrics"},
}
"""The rooms that each room may import, besides the ground files."""
ROOMS["create_agent"] = set(ROOMS)
ROOMS["notebook"] = set(ROOMS)


def may_import(importer: str, imported: str) -> bool:
    """Whether a module of one room may import a module of another."""
    if imported in GROUND:
        if importer in GROUND:
            return GROUND.index(imported) < GROUND.index(importer)
        return imported != "bridge" or importer in BRIDGE_USERS
    return importer == imported or imported in ROOMS.get(importer, ())


def listed(edges: Iterable[ImportEdge]) -> str:
    return "".join(f"\n  {edge}" for edge in edges)


def described(circles: list[list[ImportEdge]]) -> str:
    return "\n".join(f"a circle of {len(circle)}:{listed(circle)}" for circle in circles)


def expect_no_circles(circles: list[list[ImportEdge]]) -> None:
    if circles:
        pytest.fail(described(circles), pytrace=False)


@pytest.fixture(scope="module")
def edges() -> list[ImportEdge]:
    return import_edges(PACKAGE)


def test_every_import_is_allowed_by_the_table_of_rooms(edges: list[ImportEdge]) -> None:
    forbidden = [edge for edge in edges if not may_import(room_of(edge.importer), room_of(edge.imported))]
    if forbidden:
        pytest.fail(f"not allowed:{listed(forbidden)}", pytrace=False)


def test_no_modules_import_each_other_in_a_circle(edges: list[ImportEdge]) -> None:
    expect_no_circles(find_circles(edges))


def test_no_rooms_import_each_other_in_a_circle(edges: list[ImportEdge]) -> None:
    expect_no_circles(find_circles(edges, room_of))


def test_the_table_names_every_room_and_ground_file() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms | files == ROOMS.keys() | set(GROUND)
    assert all(allowed <= ROOMS.keys() for allowed in ROOMS.values())


# The graph itself

SOURCES = {
    "__init__.py": "from .high import a",
    "low.py": "",
    "high/__init__.py": "from .a import A",
    "high/a.py": "import json\nfrom .. import low\nfrom . import b",
    "high/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import C, D",
    "high/c.py": "def f():\n    from package.high.a import A\n    import package.low",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a circle of three modules, of which one import is lazy and one for type checkers only."""
    for name, source in SOURCES.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "package"


def test_imports_are_found_with_their_lines_wherever_they_are_written(package: Path) -> None:
    assert {(edge.importer, edge.imported, edge.line) for edge in import_edges(package)} == {
        ("high", "high.a", 1),
        ("high.a", "low", 2),
        ("high.a", "high.b", 3),
        ("high.b", "high.c", 3),
        ("high.c", "high.a", 2),
        ("high.c", "low", 3),
    }


def test_a_circle_is_described_by_files_and_lines(package: Path) -> None:
    circles = find_circles(import_edges(package))
    assert described(circles).splitlines() == [
        "a circle of 3:",
        "  package/high/a.py:3 imports high.b",
        "  package/high/b.py:3 imports high.c",
        "  package/high/c.py:2 imports high.a",
    ]


def test_rooms_form_a_circle_where_no_modules_do(package: Path) -> None:
    for name, source in {"low/__init__.py": "", "low/x.py": "from ..high.b import B", "low/y.py": ""}.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(source)
    (package / "low.py").unlink()
    (package / "high" / "a.py").write_text("from ..low.y import Y")
    edges = import_edges(package)
    assert find_circles(edges) == []
    (circle,) = find_circles(edges, room_of)
    assert {str(edge) for edge in circle} == {
        "package/high/a.py:1 imports low.y",
        "package/low/x.py:1 imports high.b",
    }


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("agent", "core", True),
        ("core", "agent", False),
        ("agent", "agent", True),
        ("core", "errors", True),
        ("errors", "core", False),
        ("errors", "text", True),
        ("text", "errors", False),
        ("batch", "bridge", True),
        ("metrics", "bridge", False),
        ("template", "bridge", False),
        ("bridge", "errors", True),
        ("notebook", "create_agent", True),
        ("create_agent", "notebook", False),
    ],
)
def test_the_table_is_read_as_it_is_meant(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


@pytest.mark.checkout
def test_the_picture_of_the_rooms_shows_the_imports_of_today() -> None:
    assert draw_rooms(["--check"]) == 0, "run python scripts/draw_rooms.py"


MUTABLE = {
    "Event",
    "OrderedDict",
    "WeakKeyDictionary",
    "WeakSet",
    "count",
    "defaultdict",
    "deque",
    "dict",
    "list",
    "set",
}


def module_state(tree: ast.Module) -> list[str]:
    """Names at the top of a module that hold something mutable, or that a function sets with ``global``."""
    rebound = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    names: list[str] = []
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or target.id.startswith("__"):
            continue
        value = getattr(node, "value", None)
        called = getattr(value, "func", None)
        kind = getattr(called, "attr", None) or getattr(called, "id", None)
        is_mutable = isinstance(value, ast.Dict | ast.List | ast.Set) or kind in MUTABLE
        if target.id in rebound or (is_mutable and target.id.islower()):
            names.append(target.id)
    return names


def test_a_module_with_state_has_a_function_that_resets_it() -> None:
    missing: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        # What is installed into a shell is taken back by `remove`.
        if (state := module_state(tree)) and not functions & {"reset", "remove"}:
            missing.append(f"{path.relative_to(PACKAGE)}: {', '.join(state)}")
    assert not missing, "\n".join(missing)
