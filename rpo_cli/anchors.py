"""Paths among the settings: one that is relative means the same from every folder.

An option is relative to where the command was typed, a line of a file to the file's folder. In run.json
what lies inside the run is kept relative to it ("./prompts.txt"), so that a run can be moved; all else is
absolute.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

FILES = frozenset({"prompts.file", "prompts.leave_out", "train.dataset"})
# a local folder where there is one of that name, else a hub id or a short name
MODELS = frozenset(
    {"generate.generator", "generate.lora", "generate.denoiser", "critique.critic", "edit.editor"}
    | {"edit.controlnet", "train.model", "train.embedder", "score.rewards"}
)
PROGRAMS = frozenset({"score.python", "critique.server_python"})
INSIDE = "./"
DEFAULT = "default"  # as a value: the setting's own default


def anchored(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The settings with every path that is relative to `base` made absolute."""
    return {name: _each(name, value, partial(_absolute, name, base)) for name, value in values.items()}


def portable(values: Mapping[str, Any], run: Path | None) -> dict[str, Any]:
    """The settings as run.json keeps them; `anchored` with the run's folder turns them back."""
    if run is None:  # an object store
        return dict(values)
    root = os.path.abspath(run)
    return {name: _each(name, value, lambda text: _inside(text, root)) for name, value in values.items()}


def astray(values: Mapping[str, Any], origin: str) -> Iterator[str]:
    """Names of models that would be read as folders of where the command happens to be typed."""
    for name in sorted(MODELS & values.keys()):
        for text in _texts(values[name]):
            ref = text.partition("=")[2] if name == "score.rewards" else text
            if ref and not os.path.isabs(ref) and _is_there(Path(ref)):
                yield (
                    f"{name}: '{ref}' is a folder here, but not beside {origin}, which names it: "
                    "write an absolute path, or run the command elsewhere"
                )


def _each(name: str, value: Any, change: Callable[[str], str]) -> Any:
    if name not in FILES | MODELS | PROGRAMS or value in (None, DEFAULT):
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        if name in FILES:
            return type(value)(map(change, value))
        parts = [item.partition("=") for item in value]
        return type(value)(f"{key}{equals}{change(ref) if equals else ref}" for key, equals, ref in parts)
    return value


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [text for text in texts if isinstance(text, str)]


def _absolute(name: str, base: Path, text: str) -> str:
    if not text or os.path.isabs(text):
        return text
    place = os.path.normpath(os.path.join(os.path.abspath(base), text))
    spelt = text.startswith((INSIDE, "../"))
    if name in FILES or spelt or (name in MODELS and _is_there(Path(place))):
        return place
    return place if name in PROGRAMS and "/" in text else text


def _inside(text: str, root: str) -> str:
    return INSIDE + os.path.relpath(text, root) if text.startswith(root + os.sep) else text


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, forbidden, or with a zero byte
        return False
