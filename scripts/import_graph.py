"""The import graph of the package: which module imports which, as the import statements are written.

Lazy imports and those under ``TYPE_CHECKING`` count. Implicit imports of parent packages do not, nor do imports of
or by the package itself, ``createagents_nb/__init__.py``. Standard library only.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ImportEdge", "find_circles", "import_edges", "room_of"]


@dataclass(frozen=True, slots=True)
class ImportEdge:
    """One module that an import statement names. Modules are written without the package: ``agent.chat``."""

    importer: str
    imported: str
    path: str
    """File of the importer, relative to the folder that holds the package."""
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.imported}"


def import_edges(package: Path) -> list[ImportEdge]:
    """Return the imports between the modules below ``package``, the folder of a package, file by file."""
    paths = {
        path.relative_to(package.parent): path
        for path in sorted(package.rglob("*.py"))
        if "node_modules" not in path.parts
    }
    modules = {_module_name(path) for path in paths}
    edges: list[ImportEdge] = []
    for relative, path in paths.items():
        importer = _module_name(relative)
        if importer == package.name:
            continue
        for line, imported in _imports(ast.parse(path.read_text("utf-8")), _parent_package(relative), modules):
            if imported not in (importer, package.name):
                short_importer, short_imported = (name.partition(".")[2] for name in (importer, imported))
                edges.append(ImportEdge(short_importer, short_imported, relative.as_posix(), line))
    return list(dict.fromkeys(edges))  # one statement may import several names of a module


def room_of(module: str) -> str:
    """Return the room of a module: the subpackage or the file at the top of the package.

    >>> room_of("agent.chat"), room_of("errors")
    ('agent', 'errors')
    """
    return module.partition(".")[0]


def find_circles(edges: Iterable[ImportEdge], node: Callable[[str], str] = str) -> list[list[ImportEdge]]:
    """Return import circles, shortest first, as the edges to follow; no two circles share a node.

    Args:
        edges: the graph.
        node: maps a module to what is a node of the graph; `room_of` finds circles between rooms.
    """
    graph: dict[str, dict[str, ImportEdge]] = {}
    for edge in edges:
        importer, imported = node(edge.importer), node(edge.imported)
        if importer != imported:
            graph.setdefault(importer, {}).setdefault(imported, edge)
    candidates = (_shortest_circle(start, graph) for start in graph)
    circles: list[list[ImportEdge]] = []
    seen: set[str] = set()
    for circle in sorted(filter(None, candidates), key=len):
        nodes = {node(edge.importer) for edge in circle}
        if not nodes & seen:
            circles.append(circle)
            seen |= nodes
    return circles


def _shortest_circle(start: str, graph: dict[str, dict[str, ImportEdge]]) -> list[ImportEdge]:
    """Return a shortest path from ``start`` back to itself, found breadth-first; empty if there is none."""
    queue: deque[tuple[str, list[ImportEdge]]] = deque([(start, [])])
    visited: set[str] = set()
    while queue:
        at, path = queue.popleft()
        for target, edge in graph.get(at, {}).items():
            if target == start:
                return [*path, edge]
            if target not in visited:
                visited.add(target)
                queue.append((target, [*path, edge]))
    return []


def _imports(tree: ast.Module, package: str, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and full name for each imported module that is in ``modules``."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name in modules:
                    yield statement.lineno, alias.name
        elif isinstance(statement, ast.ImportFrom):
            base = statement.module or ""
            if statement.level:
                parents = package.split(".")[: package.count(".") + 2 - statement.level]
                base = ".".join([*parents, *filter(None, [statement.module])])
            for alias in statement.names:
                submodule = f"{base}.{alias.name}"
                if submodule in modules or base in modules:
                    yield statement.lineno, submodule if submodule in modules else base


def _module_name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parent_package(relative: Path) -> str:
    return ".".join(relative.parts[:-1])
