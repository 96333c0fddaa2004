"""The architecture as a test: imports go down only, neighbours never meet, nothing heavy loads early.

Reads the source of every module; nothing is imported.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rpo_cli"
WORDS = {"errors", "records", "protocols", "registry"}
WORK = {"stages", "backends", "train", "engines", "exchange", "metrics", "visuals", "shapes"}
FLOORS = {**dict.fromkeys(WORDS, 1), **dict.fromkeys(WORK, 3), "line": 4, "cli": 5}  # other files: PAPER, 2
PAPER = 2
HEAVY = {"torch", "diffusers", "transformers", "vllm", "datasets", "ray", "peft"}
HEAVY_PLACES = ("backends", "train", "exchange", "shapes", "engines.ray")
MAX_FUNCTION = 60
MAX_MODULE = 400  # above it a file says why it is one idea
LONG = {
    "config": "a table: one field a setting",
    "stages.replies": "what a reply must be: its form, its fields and what a style asks beside",
}
LAZY = 157  # imports of our own modules inside functions; each hides an arrow, so never more


@dataclass(frozen=True)
class Import:
    importer: str
    name: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"


def modules() -> dict[str, Path]:
    """Dotted name below rpo_cli → file, for every module but the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def floor(module: str) -> int:
    return FLOORS.get(module.partition(".")[0], PAPER)


def imports_of(name: str, tree: ast.Module) -> Iterator[Import]:
    """Every import of a module, those inside functions marked lazy; `if TYPE_CHECKING` does not count."""
    yield from _imports(name, tree, lazy=False)


def _imports(name: str, node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(name, alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{name}:{child.lineno}: relative imports hide the floor"
            yield from (
                Import(name, f"{child.module}.{alias.name}", child.lineno, lazy) for alias in child.names
            )
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(name, child, lazy=lazy or inside)


FILES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
IMPORTS = [found for name, tree in TREES.items() for found in imports_of(name, tree)]


def ours(found: Import) -> str:
    """The imported module below rpo_cli; "" for a library or the package itself."""
    if not found.name.startswith("rpo_cli."):
        return ""
    target = found.name.removeprefix("rpo_cli.")
    return target if target in TREES else target.rpartition(".")[0]


def is_heavy_place(module: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in HEAVY_PLACES)


def test_imports_only_go_down():
    """No module imports from a floor above its own, not even inside a function."""
    up = [str(found) for found in IMPORTS if floor(ours(found) or "errors") > floor(found.importer)]

    assert up == []


def test_neighbours_on_work_never_import_each_other():
    """A package on WORK knows only itself and the floors below, not even inside a function."""
    meeting = [
        str(found)
        for found in IMPORTS
        if floor(found.importer) == 3 == floor(ours(found) or "errors")
        and ours(found).partition(".")[0] != found.importer.partition(".")[0]
    ]

    assert meeting == []


def test_heavy_libraries_stand_at_the_top_only_where_they_belong():
    """torch and its like are imported at the top of a file only in the packages that own them."""
    early = [
        str(found)
        for found in IMPORTS
        if not found.lazy and found.name.partition(".")[0] in HEAVY and not is_heavy_place(found.importer)
    ]

    assert early == []


def test_modules_that_load_heavy_libraries_are_imported_late():
    """Outside those packages nobody imports at the top of a file a module that loads a heavy library."""
    heavy = loads_heavy()
    early = [
        str(found)
        for found in IMPORTS
        if not found.lazy and ours(found) in heavy and not is_heavy_place(found.importer)
    ]

    assert early == []


def loads_heavy() -> set[str]:
    """Modules whose import loads a heavy library, directly or through others."""
    top = [found for found in IMPORTS if not found.lazy]
    heavy = {found.importer for found in top if found.name.partition(".")[0] in HEAVY}
    while more := {found.importer for found in top if ours(found) in heavy} - heavy:
        heavy |= more
    return heavy


def test_only_the_door_talks_to_the_terminal():
    """typer and rich are imported by cli/ alone."""
    elsewhere = [
        str(found)
        for found in IMPORTS
        if found.name.partition(".")[0] in {"typer", "rich", "click"} and floor(found.importer) < 5
    ]

    assert elsewhere == []


def test_the_door_uses_documented_names_of_typer_only():
    """Typer vendors Click: its private modules, and click itself, are never imported."""
    private = [
        str(found)
        for found in IMPORTS
        if found.name.startswith(("click", "typer._")) or found.name.partition(".")[0] == "click"
    ]

    assert private == []


def test_every_function_fits_on_a_screen():
    """At most 60 lines in a function, its docstring apart."""
    functions = [
        (name, node)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]

    assert [f"{name}.{node.name}" for name, node in functions if length(node) > MAX_FUNCTION] == []


def test_a_long_module_says_why():
    """One over 400 lines is in `LONG` with its reason, and no other."""
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in FILES.items()}

    assert {name for name, count in lines.items() if count > MAX_MODULE} == LONG.keys()


@cache
def arrows() -> dict[str, set[str]]:
    """Module → modules of ours that it imports, those inside functions and for types too."""
    found: dict[str, set[str]] = {name: set() for name in TREES}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rpo_cli"):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}".removeprefix("rpo_cli.")
                    found[name].add(whole if whole in TREES else whole.rpartition(".")[0])
    return {name: targets & TREES.keys() - {name} for name, targets in found.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes from which one comes back to where one was; [] where there are none."""
    left = {name: set(targets) for name, targets in graph.items()}
    while ends := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ends:
            del left[name]
    while starts := [name for name in left if not any(name in targets for targets in left.values())]:
        for name in starts:
            del left[name]
    return [sorted(left)] if left else []


def test_no_module_comes_back_to_itself():
    """No import circle, imports inside functions and for types counted."""
    assert circles(arrows()) == []


def beside(folder: str) -> dict[str, set[str]]:
    """Packages of a folder → those of it that they import."""
    packages = {name for name in TREES if FILES[name].name == "__init__.py"}
    inside = {name for name in packages if name.rpartition(".")[0] == folder}
    found: dict[str, set[str]] = {name: set() for name in inside}

    def home(module: str) -> str | None:
        return next((name for name in inside if module == name or module.startswith(f"{name}.")), None)

    for module, targets in arrows().items():
        if (mine := home(module)) is not None:
            found[mine] |= {other for target in targets if (other := home(target)) not in (None, mine)}
    return found


@pytest.mark.parametrize("folder", ["", "cli", "exchange", "line", "shapes", "stages", "train"])
def test_no_folder_comes_back_to_itself_through_one_beside_it(folder):
    """Folders that stand side by side import each other one way only."""
    assert circles(beside(folder)) == []


def test_no_more_imports_stand_inside_functions():
    """What is imported late is not seen at the top of a file: at most as many as there were."""
    assert len([found for found in IMPORTS if found.lazy and ours(found)]) <= LAZY


def length(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    whole = function.end_lineno - function.lineno + 1
    return whole - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def test_the_walk_sees_what_it_must_refuse():
    """The checks above rest on this reading of imports: lazy ones are seen, type-only ones are not."""
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import vllm
import torch.nn
class A:
    import diffusers
def f():
    from rpo_cli.train import loop
"""
    found = [(i.name, i.lazy) for i in imports_of("stages.x", ast.parse(source))]

    assert found == [
        ("typing.TYPE_CHECKING", False),
        ("torch.nn", False),
        ("diffusers", False),
        ("rpo_cli.train.loop", True),
    ]


def test_the_architecture_page_names_every_package():
    """rpo_cli/README.md, the page a newcomer reads first, has every folder and every single file."""
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    places = {f"{name.partition('.')[0]}/" if "." in name else name for name in TREES}
    packages = {place for place in places if place.endswith("/")}
    files = {f"{place}.py" for place in places - packages if f"{place}/" not in packages}

    below = {f"{path.parent.name}/" for path in PACKAGE.glob("*/**/__init__.py")}
    shown = page[page.index("## The map") : page.index("## One prompt")]

    assert sorted(name for name in packages | files | below if name not in shown) == []
