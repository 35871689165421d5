"""The structure of the code, read from its syntax trees: what `make map` prints and the house tests hold.

Standard library only, so that it runs before anything is installed: `python tests/house/structure.py`.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The rooms as floors: each may import those before it.
ROOMS = ("features", "evaluation", "models", "serving", "pipeline")
#: What is not a room and may import every room.
OUTSIDE = ("clickmill", "benchmarks", "tests")
MAX_ENTRIES = 13
MAX_LINES = 400
#: Names that a file may have in several rooms: what a folder configures, its model, its table of what there is.
SHARED_NAMES = ("__init__", "config", "model", "registry")


def python_files(root: Path, *folders: str) -> list[Path]:
    """Returns the Python files below folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def module_of(path: Path, root: Path) -> str:
    """Returns the dotted name of a file; that of a package for its `__init__.py`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def syntax(path: Path) -> ast.Module:
    """Returns the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.Module, module: str, package: bool = False) -> list[tuple[int, str]]:
    """Returns (line, dotted name) of all imports at any depth, `import_module("…")` among them.

    Args:
      tree: of the file.
      module: its dotted name, from which relative imports are resolved.
      package: whether the file is an `__init__.py`.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (1 if package else 0)
            base = module.split(".")[: len(module.split(".")) - up] if node.level else []
            prefix = ".".join(base + ([node.module] if node.module else []))
            found += [(node.lineno, f"{prefix}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Returns the modules of the repository, each with those that it imports itself."""
    files = {module_of(path, root): path for path in python_files(root, *ROOMS, *OUTSIDE)}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for _, name in imported(syntax(path), module, path.name == "__init__.py"):
            parts = name.split(".")
            prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
            target = next((prefix for prefix in prefixes if prefix in files), None)
            if target is not None and target != module:
                graph[module].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))
    try:
        for node in sorted(graph):
            if node not in index:
                visit(node)
    finally:
        sys.setrecursionlimit(limit)
    return found


def folders(root: Path = ROOT) -> dict[str, list[str]]:
    """Returns the entries of every folder: files and folders but `__init__.py`, hidden ones and caches."""
    found = {}

    def read(folder: Path) -> None:
        entries = sorted(path for path in folder.iterdir() if _counts(path))
        found[folder.relative_to(root).as_posix()] = [path.name for path in entries]
        for path in entries:
            if path.is_dir():
                read(path)

    for name in (*ROOMS, *OUTSIDE, "docs"):
        if (root / name).is_dir():
            read(root / name)
    return found


def _counts(path: Path) -> bool:
    if path.name.startswith(".") or path.name in ("__init__.py", "__pycache__") or path.suffix == ".lock":
        return False
    return path.is_file() or any(_counts(inner) or inner.name == "__init__.py" for inner in path.iterdir())


def crowded(root: Path = ROOT) -> dict[str, int]:
    """Returns the folders of more than `MAX_ENTRIES` entries."""
    return {name: len(entries) for name, entries in folders(root).items() if len(entries) > MAX_ENTRIES}


def shared_file_names(root: Path = ROOT) -> dict[str, list[str]]:
    """Returns the file names that stand in more than one room, with the files."""
    places = defaultdict(list)
    for path in python_files(root, "clickmill", *ROOMS):
        if path.stem not in SHARED_NAMES:
            places[path.stem].append(path.relative_to(root).as_posix())
    return {name: found for name, found in places.items() if len({path.split("/")[0] for path in found}) > 1}


def repeated_classes(root: Path = ROOT) -> dict[str, list[str]]:
    """Returns the names of classes that the rooms define more than once, with the files."""
    places = defaultdict(list)
    for path in python_files(root, "clickmill", *ROOMS):
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(root).as_posix())
    return {name: found for name, found in places.items() if len(found) > 1}


def upward_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Returns the imports against the floors: of a higher room, or of `clickmill`, tests or benchmarks by a room."""
    found = []
    for module, targets in sorted(graph.items()):
        room = module.split(".")[0]
        if room in ROOMS:
            allowed = ROOMS[: ROOMS.index(room) + 1]
            found += [f"{module} → {target}" for target in sorted(targets) if target.split(".")[0] not in allowed]
    return found


def long_files(root: Path = ROOT) -> dict[str, int]:
    """Returns the Python files of more than `MAX_LINES` lines."""
    files = [*python_files(root, *ROOMS, *OUTSIDE), *root.glob("*.py")]
    lengths = {path.relative_to(root).as_posix(): count_lines(path) for path in files}
    return {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def count_lines(path: Path) -> int:
    """Returns the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def arrows(graph: dict[str, set[str]], depth: int) -> dict[str, dict[str, int]]:
    """Returns how many imports lead from where to where, between rooms (`depth` 1) or folders (2)."""
    packages = {module.rpartition(".")[0] for module in graph}

    def place(module: str) -> str:
        folder = module if module in packages or "." not in module else module.rpartition(".")[0]
        return ".".join(folder.split(".")[:depth])

    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for module, targets in graph.items():
        for target in targets:
            if place(module) != place(target):
                found[place(module)][place(target)] += 1
    return found


def draw(root: Path = ROOT) -> Iterator[str]:
    """Yields the lines of the map; the last six sum it up."""
    graph, found_folders = import_graph(root), folders(root)
    between = arrows(graph, 2)
    for room in (*ROOMS, *OUTSIDE, "docs"):
        lines = sum(count_lines(path) for path in python_files(root, room))
        yield f"{room}/" + (f"  {lines:,} lines of Python" if lines else "")
        for name, entries in found_folders.items():
            if name.split("/")[0] == room:
                depth = name.count("/")
                yield f"  {'  ' * depth}{name.rpartition('/')[2]}/ ({len(entries)}): {' '.join(_shown(entries))}"
                targets = between.get(name.replace("/", "."), {}) if depth < 2 and room in ROOMS else {}
                if targets:
                    yield f"  {'  ' * depth}    imports " + " ".join(
                        f"{target.replace('.', '/')}({count})" for target, count in sorted(targets.items())
                    )
        yield ""
    yield "arrows between rooms (imports)"
    for source, targets in sorted(arrows(graph, 1).items()):
        yield f"  {source} → " + ", ".join(f"{name} ({count})" for name, count in sorted(targets.items()))
    upwards, rings, names = upward_arrows(graph), circles(graph), shared_file_names(root)
    for title, found in (
        ("arrows upwards", upwards),
        ("circles", [" ↔ ".join(ring) for ring in rings]),
        ("folders over 13 entries", [f"{name}: {count}" for name, count in crowded(root).items()]),
        ("file names in two rooms", [f"{name}: {', '.join(paths)}" for name, paths in names.items()]),
    ):
        if found:
            yield f"{title}\n  " + "\n  ".join(found)
    outside_tests = sum(count_lines(path) for path in python_files(root, *ROOMS, "clickmill", "benchmarks"))
    outside_tests += sum(count_lines(path) for path in root.glob("*.py"))
    yield f"floors: {' < '.join(ROOMS)}"
    yield f"arrows upwards: {len(upwards)}"
    yield f"circles: {len(rings)}"
    yield f"folders over {MAX_ENTRIES} entries: {len(crowded(root))}"
    yield f"file names in two rooms: {len(names)}"
    yield f"Python lines outside tests: {outside_tests:,}"


def _shown(entries: list[str]) -> list[str]:
    return [entry.removesuffix(".py") for entry in entries]


if __name__ == "__main__":
    print("\n".join(draw()))
