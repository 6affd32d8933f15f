"""No circles: modules import each other one way, and so do folders; imports inside functions count. Nor crowds."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
Graph = Mapping[str, Set[str]]
TOPS = ("pipeline", "model", "jobs", "vlajepa")
MAX_MODULES = 12


def imports(repository: Path) -> dict[str, set[str]]:
    """Module -> modules of the project that it imports."""
    files = {_name(path.relative_to(repository)): path for top in TOPS for path in (repository / top).rglob("*.py")}
    return {
        name: {one for one in _imported(name, path, files) if one in files} - {name} for name, path in files.items()
    }


def folders(modules: Graph, packages: Set[str]) -> dict[str, set[str]]:
    """Folder -> folders that its modules import. A folder and those inside it are one: they may share its files."""
    found: dict[str, set[str]] = {}
    for name, others in modules.items():
        folder = _folder(name, packages)
        apart = {other for other in (_folder(o, packages) for o in others) if not _related(folder, other)}
        found.setdefault(folder, set()).update(apart)
    return found


def closing(graph: Graph) -> set[tuple[str, str]]:
    """Edges that lie on a circle."""
    reached = {name: _reached(graph, name) for name in graph}
    return {(a, b) for a, others in graph.items() for b in others if a in reached[b]}


def test_modules_and_folders_import_each_other_one_way() -> None:
    modules = imports(REPOSITORY)
    packages = {name for name in modules if (REPOSITORY / name.replace(".", "/")).is_dir()}
    assert not closing(modules), f"a circle of modules: {sorted(closing(modules))}"
    apart = folders(modules, packages)
    assert not closing(apart), f"a circle of folders: {sorted(closing(apart))}"


def test_circles_are_found(tmp_path: Path) -> None:
    """In functions, by relative imports, and between folders whose modules have none."""
    sources = {
        "jobs/a.py": "def f():\n    from jobs.b import g",
        "jobs/b.py": "from . import a",
        "model/one/c.py": "import model.two.d",
        "model/two/d.py": "from model.one import e",
        "model/one/e.py": "from model import f",
        "model/f.py": "import model.one.c",
    }
    for path, text in sources.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    modules = imports(tmp_path)
    frame = {("model.one.c", "model.two.d"), ("model.two.d", "model.one.e"), ("model.one.e", "model.f")}
    assert closing(modules) == {("jobs.a", "jobs.b"), ("jobs.b", "jobs.a"), *frame, ("model.f", "model.one.c")}
    assert closing(folders(modules, set())) == {("model.one", "model.two"), ("model.two", "model.one")}


def test_a_folder_holds_two_to_twelve_modules_and_says_what_they_are_for() -> None:
    for folder in (path.parent for top in TOPS for path in (REPOSITORY / top).rglob("__init__.py")):
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        inside = len(modules) + sum(path.parent.parent == folder for path in folder.glob("*/__init__.py"))
        assert inside >= 2, f"{folder}: one module alone needs no folder"
        assert len(modules) <= MAX_MODULES, f"{folder}: {len(modules)} modules, more than {MAX_MODULES}"
        line = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert line, f"{folder}/__init__.py: one line that says what the folder is for"
        assert "\n" not in line, f"{folder}/__init__.py: more than one line"


def _related(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _folder(name: str, packages: Set[str]) -> str:
    return name if name in packages else name.rpartition(".")[0]


def _imported(name: str, path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = [*name.split("."), *(["__init__"] if path.name == "__init__.py" else [])][: -node.level]
                base = ".".join([*parents, *filter(None, [node.module])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            yield from (one if one in files else base for one in inner)


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
