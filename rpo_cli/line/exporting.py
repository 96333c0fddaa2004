"""export: the dataset of a run in the files that other tools read."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rpo_cli import registry
from rpo_cli.drafts import draft_folder, sync, sync_tree, write_whole
from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import code, feature, plain
from rpo_cli.exchange.dataset import PICK_A_PIC, schema
from rpo_cli.exchange.outgoing import Built, Job
from rpo_cli.line.context import Line
from rpo_cli.line.imports import told_sources
from rpo_cli.parts import told
from rpo_cli.templates import Templates

README = "README.md"
MARK = "<!-- rpo export "


@dataclass(frozen=True)
class ExportReport:
    """What was written: `rows` per split. `fresh`: something was written now."""

    format: str
    path: str
    rows: dict[str, int]
    fresh: bool


def export(line: Line, format: str, out: Path | None = None) -> ExportReport:
    """Write RUN/dataset in another format, by default to RUN/export/FORMAT.

    The folder appears whole or not at all; an export of ours that is there is replaced.

    Raises:
        UsageError: no such format, no dataset yet, or a folder that is not ours.
    """
    exporter = registry.load("exporters", format)
    data = Built.at(line.store.path("dataset"))
    if not data.files:
        raise UsageError(f"{line.store.url}: no dataset to export yet", f"rpo build-pairs {line.store.url}")
    # Salesforce's trainer drops ties only in a folder whose name says pickapic
    folder = line.store.path("export", format) if out is None else out
    code = registry.code_of("exporters", format)
    theirs = f" {code['distribution']} {code['version']}" if code else ""
    mark = f"{MARK}{format} {data.build}{theirs} -->"
    if (there := _there(folder)) == mark:
        return ExportReport(format, str(folder), _counts(folder), fresh=False)
    if there is None:
        raise UsageError(
            f"{folder}: is there already, and no export of rpo", "name an empty folder with --out"
        )
    with (
        line.store.lock("export"),
        line.store.lock("build-pairs"),
        told(str(folder)),
        draft_folder(folder.parent, f".{folder.name}.rpo-draft-") as draft,
    ):
        line.observer.start("export", sum(1 for s in data.splits() for _ in data.rows(s, ["label_0"])), 0)
        job = Job(data, draft, _ask(line), lambda: line.observer.advance(1, 0))
        rows, text = exporter(job)
        line.observer.finish()
        sync_tree(draft)  # before the README, whose mark says that all of it is there
        write_whole(draft / README, _readme(line, format, rows, text, mark).encode())
        _replace(draft, folder)
    return ExportReport(format, str(folder), rows, fresh=True)


def _there(folder: Path) -> str | None:
    """The mark of the export that is there; "" where nothing is; None where it is something else."""
    if not folder.exists():
        return ""
    if folder.is_dir() and not any(folder.iterdir()):
        return ""
    card = folder / README
    if not card.is_file():
        return None
    last = card.read_text(encoding="utf-8", errors="replace").rstrip("\n").rpartition("\n")[2]
    return last if last.startswith(MARK) else None


def _replace(draft: Path, folder: Path) -> None:
    """The old folder steps aside before the new one takes its name."""
    old = folder.with_name(f".{folder.name}.rpo-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _ask(line: Line) -> Callable[[str], str]:
    """A prompt → what the run's critic is asked first."""
    s = line.settings.critique
    found = Templates.find(line.templates, s.template)
    template = found.single if s.single_turn else found.critique
    limits = {"max_instructions": s.max_instructions, "max_words": s.max_words}
    return lambda prompt: template.fill(prompt=prompt, **limits)


def _readme(line: Line, format: str, rows: dict[str, int], text: str, mark: str) -> str:
    """A short card: licence and configurations for the hub, what is here, and the mark of the export."""
    card = line.store.path("dataset", README).read_text(encoding="utf-8")
    header = yaml.safe_load(card[4:].partition("\n---\n")[0])
    said = {name: header[name] for name in ("license", "pretty_name", "tags") if name in header}
    said |= _configs(rows) if format == "pickapic" else {}
    table = "\n".join(f"| {split} | {count:,} |" for split, count in rows.items())
    sources = "".join(
        f"- imported: {code(i['source'])}, licence {code(i['license'])}\n" for i in told_sources(line)
    )
    yaml_header = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{yaml_header}---\n\n# Preference pairs as {plain(format)}\n\n"
        f"Written by `rpo export`. {text}\n\n"
        f"| split | rows |\n| --- | --- |\n{table}\n\n{sources}\n{mark}\n"
    )


def _configs(rows: dict[str, int]) -> dict[str, Any]:
    """The same files as bytes, the default, and decoded for the hub's viewer."""
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows]
    names = list(schema([]))[:PICK_A_PIC]
    return {
        "configs": [
            {"config_name": "pickapic", "default": True, "data_files": files},
            {"config_name": "viewer", "data_files": [dict(entry) for entry in files]},
        ],
        "dataset_info": [
            {"config_name": config, "features": [feature(field, picture) for field in names]}
            for config, picture in (("pickapic", "binary"), ("viewer", "image"))
        ],
    }


def _counts(folder: Path) -> dict[str, int]:
    text = (folder / README).read_text(encoding="utf-8")
    return {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^\| (\w+) \| ([\d,]+) \|$", text, re.M)
    }
