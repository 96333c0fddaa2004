"""What the source file of a registered thing says about it, read without importing it."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def explain(place: str) -> tuple[str, str]:
    """First sentence and source (paper, code) of "module:attribute"; empty when there is no such text.

    A class or function is explained by its docstring; a value that a call makes, by the call's `source`.
    """
    module, _, attribute = place.partition(":")
    file = _file(module)
    if file is None:
        return "", ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute:
            return _told(ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            return _call(node.value)
    return "", ""


def parts(place: str) -> dict[str, Any]:
    """Keyword → value of the call that makes "module:attribute", where it is written as a constant."""
    module, _, attribute = place.partition(":")
    file = _file(module)
    if file is None:
        return {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
            return _constants(node.value)
    return {}


def _file(module: str) -> Path | None:
    """The module's file. Only the top package is looked up, which imports nothing."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin) if not rest else Path(spec.origin).parent.joinpath(*rest)
    return next((p for p in (path, path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _told(docstring: str) -> tuple[str, str]:
    first = " ".join(docstring.partition("\n\n")[0].split())
    source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return first, " ".join(source[1].split()) if source else ""


def _call(value: ast.expr) -> tuple[str, str]:
    said = _constants(value)
    return said.get("summary", ""), said.get("source", "")


def _constants(value: ast.expr) -> dict[str, Any]:
    return {
        keyword.arg: keyword.value.value
        for keyword in (value.keywords if isinstance(value, ast.Call) else ())
        if keyword.arg is not None and isinstance(keyword.value, ast.Constant)
    }
