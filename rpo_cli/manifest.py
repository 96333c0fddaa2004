"""run.json: what a run was told and what its rows were made of; changed by one command at a time.

Several commands work on one run beside each other. Each change reads the file anew, changes it and puts it
back under a kernel lock, so that none takes back what another has written since.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rpo_cli import installing
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.files import Files, waiting_lock
from rpo_cli.records import FORMAT_VERSION

MANIFEST = "run.json"
OPTIONS, GIVEN, TRAININGS, EVALUATIONS = "options", "given", "trainings", "evaluations"
SWEEPS = "sweeps"
Manifest = dict[str, Any]
Names = dict[str, str]
RESTORE = "restore the file, or move it away and run the command again: the rows stay"


class Prompts(BaseModel):
    model_config = ConfigDict(strict=True)
    group: str
    source: str
    count: int


class Shape(BaseModel):
    """What every entry of run.json is; entries of other names are left as they are.

    A field's description says in words what is expected of it.
    """

    model_config = ConfigDict(strict=True)
    format: int = Field(default=1, ge=1, description="a version number from 1")
    rpo: str = Field(default="", description="a version's name")
    preset: str = Field(default="", description="a preset's name")
    settings: dict[str, dict[str, Any]] = Field(default={}, description="section → setting → value")
    origins: Names = Field(default={}, description="setting → where its value is from")
    options: dict[str, Any] = Field(default={}, description="setting → value")
    given: Names = Field(default={}, description="setting → which command was given it, and when")
    trainings: dict[str, dict[str, dict[str, Any]]] = Field(
        default={}, description="training → options, given, beside, origins: setting → value"
    )
    evaluations: dict[str, dict[str, Any]] = Field(
        default={}, description="evaluation → option → what it was asked with"
    )
    sweeps: dict[str, dict[str, Any]] = Field(default={}, description="sweep → what it was asked for")
    models: Names = Field(default={}, description="model → commit or hash")
    backends: Names = Field(default={}, description="model → a backend's name")
    versions: Names = Field(default={}, description="library → version")
    groups: Names = Field(default={}, description="stage → the folder of its rows")
    datasets: Names = Field(default={}, description="dataset of the hub → commit")
    encoded: Names = Field(default={}, description="build, encoder → which")
    imports: dict[str, dict[str, Any]] = Field(default={}, description="source → what is known of it")
    prompts: Prompts | None = Field(default=None, description="group, source and count")


def read(files: Files) -> Manifest:
    """run.json, or {} in a new run.

    Raises:
        UsageError: an entry is not what rpo writes there, or a newer rpo has written it.
        RpoError: it is no JSON.
    """
    if not files.exists(MANIFEST):
        return {}
    where = files.join(MANIFEST)
    try:
        found = json.loads(files.read(MANIFEST))
    except ValueError as error:
        raise RpoError(f"{where}: not the JSON that rpo writes: {error}", RESTORE) from error
    if not isinstance(found, dict):
        raise RpoError(f"{where}: not the JSON that rpo writes: no object", RESTORE)
    _check(found, where)
    return found


def _check(found: Manifest, where: str) -> None:
    version = found.get("format", 1)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UsageError(
            f"{where}: format {version}, written by a newer rpo ({found.get('rpo', 'unknown')}); this one "
            f"reads formats up to {FORMAT_VERSION}",
            installing.newer(),
        )
    try:
        Shape.model_validate(found)
    except ValidationError as error:
        wrong = "; ".join(dict.fromkeys(_problem(item["loc"], item["input"]) for item in error.errors()))
        raise UsageError(f"{where}: {wrong}", RESTORE) from error


def _problem(place: tuple[int | str, ...], value: Any) -> str:
    expected = Shape.model_fields[str(place[0])].description
    return f"{'.'.join(map(str, place))}: expected {expected}, not {json.dumps(value)[:80]}"


def write(files: Files, manifest: Mapping[str, Any]) -> None:
    """Write run.json in one step, when it says something new."""
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not (files.exists(MANIFEST) and files.read(MANIFEST) == text.encode()):
        files.write(MANIFEST, text.encode())


def update(files: Files, change: Callable[[Manifest], Manifest]) -> tuple[Manifest, Manifest]:
    """Re-read, change and write under the lock of run.json; returns what was there and what is there now.

    On an object store there is no lock.
    """
    lock = nullcontext() if files.local is None else waiting_lock(files.local / "logs", MANIFEST)
    with lock:
        before = read(files)
        after = change(before)
        if after:
            write(files, after)
        else:  # what is no run any more
            files.delete(MANIFEST)
    return before, after


def undo(before: Manifest, mine: Manifest, now: Manifest) -> Manifest:
    """`now` without what one command changed from `before` to `mine`; what others wrote since stays."""
    if now == mine:
        return before
    back = {key: before[key] if key in before and now[key] == mine.get(key) else now[key] for key in now}
    for entry in (OPTIONS, GIVEN, TRAININGS, EVALUATIONS):
        if entry in now:
            back[entry] = _undone(*(part.get(entry, {}) for part in (before, mine, now)))
    return back


def _undone(before: Manifest, mine: Manifest, now: Manifest) -> Manifest:
    """The same for options and trainings: each stands for itself."""
    kept = {name: value for name, value in now.items() if name not in mine or value != mine[name]}
    taken = {name for name in now if name not in kept}
    return kept | {name: before[name] for name in taken if name in before}
