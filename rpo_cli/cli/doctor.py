"""`rpo doctor`: what this machine can run. Reads only; asks no network."""

import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import typer

from rpo_cli import installing
from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import size, table
from rpo_cli.errors import MissingDependency, RpoError
from rpo_cli.version import __version__


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `ok` None means that it is neither right nor wrong."""

    topic: str
    name: str
    found: str
    ok: bool | None = None


def doctor(context: typer.Context, json: o.Json = False, quiet: o.Quiet = False) -> None:
    """Show Python, packages, extras, devices, embedded models and disk; exit 3 when a package is missing.

    Example: rpo doctor --json
    """
    found = [*packages(), *versions(), *devices(), *models(), *disk(Path.cwd()), *pages()]
    words = {True: "ok", False: "WRONG", None: ""}
    rows = [[f.topic, f.name, f.found, words[f.ok]] for f in found]
    say = step.console(context)
    say.result(found, table(["topic", "name", "found", ""], rows))
    refuse_wrong([finding for finding in found if finding.ok is False])
    step.tell(say, "rpo run demo --preset shapes")


def refuse_wrong(wrong: list[Finding]) -> None:
    """Fail when something is missing or broken.

    Raises:
        MissingDependency: a package is missing.
        RpoError: a model file is missing or changed, or Python is too old.
    """
    names = ", ".join(finding.name for finding in wrong)
    if any(finding.topic in ("package", "device") for finding in wrong):
        raise MissingDependency(f"not usable: {names}", installing.again())
    if wrong:
        raise RpoError(
            f"not usable: {names}",
            installing.restored(),
        )


def packages() -> list[Finding]:
    """Python, rpo, what it needs and its extras, by the metadata of the installed rpo."""
    found = [
        Finding(
            "python", sys.executable, ".".join(map(str, sys.version_info[:3])), sys.version_info >= (3, 11)
        ),
        Finding("package", "rpo-cli", __version__, True),
    ]
    for requirement in _requirements():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        installed = _version(name)
        if extra:
            told = installed or f"missing: {installing.extra(extra[1])}"
            found.append(Finding("extra", f"{extra[1]}: {name}", told))
        else:
            found.append(Finding("package", name, installed or "missing", installed is not None))
    return found


def versions() -> list[Finding]:
    """Which versions fit together, and which of them are here."""
    tested = ", ".join(f"{name} {number}" for name, number in installing.TESTED.items())
    return [
        Finding("versions", "tested together", tested),
        Finding("versions", "vLLM, in an environment of its own", installing.VLLM_FITS),
    ]


def _requirements() -> list[str]:
    try:
        return requires("rpo-cli") or []
    except PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def devices() -> list[Finding]:
    """CPU threads, CUDA devices with their memory, and Apple's GPU, as torch sees them."""
    try:
        import torch
    except ImportError as error:
        return [Finding("device", "torch", f"cannot be imported: {error}", False)]
    found = [Finding("device", "cpu", f"{torch.get_num_threads()} threads", True)]
    for index in range(torch.cuda.device_count()):
        about: Any = torch.cuda.get_device_properties(index)
        found.append(Finding("device", f"cuda:{index}", f"{about.name}, {size(about.total_memory)}", True))
    if torch.backends.mps.is_available():
        found.append(Finding("device", "mps", "Apple GPU", True))
    return found


def models() -> list[Finding]:
    """The embedded models: every weight file of the manifest, by its hash."""
    from rpo_cli.shapes.manifest import MANIFEST, current, recorded

    if not MANIFEST.is_file():
        return [Finding("model", "shapes", "no manifest: make shapes-models", False)]
    now = current()
    return [_weights(path, entry, now.get(path)) for path, entry in sorted(recorded().items())]


def _weights(path: str, entry: dict[str, Any], now: dict[str, Any] | None) -> Finding:
    if now is None:
        return Finding("model", path, "missing", False)
    same = now["sha256"] == entry["sha256"]
    return Finding("model", path, size(now["bytes"]) if same else "does not match the manifest", same)


def pages() -> list[Finding]:
    """Where the documentation lies."""
    first = Path(__file__).parents[1] / "docs" / "README.md"
    return [Finding("pages", str(first), "tutorial, recipes, methods, troubleshooting")]


def disk(folder: Path) -> list[Finding]:
    usage = shutil.disk_usage(folder)
    return [Finding("disk", str(folder), f"{size(usage.free)} free of {size(usage.total)}")]
