"""What the source file of a registered thing says about it, read without importing it."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SECTION = re.compile(r"(Source|Args|Attributes|Raises|Returns|Yields):")


def explain(place: str) -> tuple[str, str]:
    """First sentence and source (paper, code) of "module:attribute"; empty when there is no such text.

    A class or function is explained by its docstring; a value that a call makes, by the call's `source`.
    """
    place = _target(place)
    node = _node(place)
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return _summary_and_source(ast.get_docstring(node) or "")
    said = parts(place)
    return said.get("summary", ""), said.get("source", "")


def more(place: str) -> str:
    """What a docstring says after its first sentence, without sources and arguments; a paragraph a line."""
    node = _node(_target(place))
    if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return ""
    rest = (ast.get_docstring(node) or "").split("\n\n")[1:]
    return "\n".join(" ".join(text.split()) for text in rest if not SECTION.match(text))


def parts(place: str) -> dict[str, Any]:
    """Keyword → value of the call that makes "module:attribute": constants, tuples and names of such."""
    place = _target(place)
    node = _node(place)
    if not isinstance(node, ast.Call):
        return {}
    module = place.partition(":")[0]
    read = {keyword.arg: _value(keyword.value, module) for keyword in node.keywords if keyword.arg}
    return {name: value for name, value in read.items() if value is not None}


def _target(place: str, steps: int = 9) -> str:
    """Where the thing itself stands: a third party's name may lead to a `registry.Entry`, or an import."""
    module, _, attribute = place.partition(":")
    node = _node(place)
    if node is None:
        origin = _origin(attribute, module)
        return _target(origin, steps - 1) if origin and steps else place
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Entry":
        named = [keyword.value for keyword in node.keywords if keyword.arg == "target"]
        found = _value(next(iter([*node.args, *named]), None), module)
        return _target(found, steps - 1) if isinstance(found, str) and steps else place
    return place


def _node(place: str) -> ast.AST | None:
    """The class or function of that name, or what is assigned to it."""
    module, _, attribute = place.partition(":")
    for node in _body(module):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute:
            return node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            return node.value
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == attribute:
            return node.value
    return None


def _value(node: ast.AST | None, module: str) -> Any:
    """None where it is more than a constant, a tuple of constants, or a name for one of those."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        lists = [
            _value(item.value, module) if isinstance(item, ast.Starred) else (_value(item, module),)
            for item in node.elts
        ]
        return tuple(value for found in lists for value in found or ())
    if isinstance(node, ast.Name):
        own = _node(f"{module}:{node.id}")
        return _value(own, module) if own is not None else _imported(node.id, module)
    return None


def _imported(name: str, module: str) -> Any:
    origin = _origin(name, module)
    return _value(_node(origin), origin.partition(":")[0]) if origin else None


def _origin(name: str, module: str) -> str:
    """The "module:attribute" that a module imports under a name; "" for none."""
    for node in _body(module):
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return f"{node.module}:{alias.name}"
    return ""


def _body(module: str) -> list[ast.stmt]:
    """The statements of a module's file; none where there is no such file."""
    file = _file(module)
    return [] if file is None else _parsed(file)


@cache
def _parsed(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text(encoding="utf-8")).body


def _file(module: str) -> Path | None:
    """The module's file. Only the top package is looked up, which imports nothing."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin) if not rest else Path(spec.origin).parent.joinpath(*rest)
    return next((p for p in (path, path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _summary_and_source(docstring: str) -> tuple[str, str]:
    first = " ".join(docstring.partition("\n\n")[0].split())
    source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return first, " ".join(source[1].split()) if source else ""
