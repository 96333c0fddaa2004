"""export: the dataset of a run in the files that other tools read."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rpo_cli import registry
from rpo_cli.errors import UsageError, disk_errors
from rpo_cli.exchange.card import code, feature, plain
from rpo_cli.exchange.dataset import PICK_A_PIC, schema
from rpo_cli.exchange.outgoing import Built, ExportJob
from rpo_cli.files import draft_folder, sync, sync_tree, write_whole
from rpo_cli.line.imports.sources import card_sources
from rpo_cli.line.session import Line
from rpo_cli.line.work.critique import style
from rpo_cli.templates import Templates

README = "README.md"
MARK = "<!-- rpo export "
COUNTS = "<!-- rpo counts "
VERSION = 2  # of what exporters write; an export of another version is written anew


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what was not.

    Attributes:
        rows: per split.
        left_out, refused: reason → rows that are not there, having no place in the format, or because its
            readers would not give them back as they are.
        changed: what a user should know of rows that are there → their number.
        fresh: something was written now.
    """

    format: str
    path: str
    rows: dict[str, int]
    fresh: bool
    left_out: dict[str, int]
    refused: dict[str, int]
    changed: dict[str, int]

    @property
    def account(self) -> str:
        """Where every row went, in one line."""
        written, gone = sum(self.rows.values()), {"left out": self.left_out, "refused": self.refused}
        every = written + sum(sum(counts.values()) for counts in gone.values())
        parts = [f"rows: {every:,}: {written:,} written"]
        parts += [f"{sum(why.values()):,} {what} ({_reasons(why)})" for what, why in gone.items() if why]
        return ", ".join(parts) + (f"; {_reasons(self.changed)}" if self.changed else "")


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


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
    mark = f"{MARK}{format} {VERSION} {data.build}{theirs} -->"
    if (there := _there(folder)) == mark:
        return ExportReport(format, str(folder), fresh=False, **_counts(folder))
    if there is None:
        raise UsageError(
            f"{folder}: is there already, and no export of rpo", "name an empty folder with --out"
        )
    with (
        line.store.lock("export"),
        line.store.lock("build-pairs"),
        disk_errors(str(folder)),
        draft_folder(folder.parent, f".{folder.name}.rpo-draft-") as draft,
    ):
        line.observer.start("export", sum(1 for s in data.splits() for _ in data.rows(s, ["label_0"])), 0)
        job = ExportJob(data, draft, _ask(line), lambda: line.observer.advance(1, 0))
        rows, text = exporter(job)
        line.observer.finish()
        sync_tree(draft)  # before the README, whose mark says that all of it is there
        counts = [dict(+found) for found in (job.left_out, job.refused, job.changed)]
        report = ExportReport(format, str(folder), rows, True, *counts)
        write_whole(draft / README, _readme(line, report, text, mark).encode())
        _replace(draft, folder)
    return report


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
    found = Templates.find(line.templates, style(line))
    template = found.single if s.single_turn else found.critique
    limits = {"max_instructions": s.max_instructions, "max_words": s.max_words}
    return lambda prompt: template.fill(prompt=prompt, **limits)


def _readme(line: Line, report: ExportReport, text: str, mark: str) -> str:
    """A short card: licence and configurations for the hub, what is here, and the mark of the export."""
    rows = report.rows
    card = line.store.path("dataset", README).read_text(encoding="utf-8")
    header = yaml.safe_load(card[4:].partition("\n---\n")[0])
    said = {name: header[name] for name in ("license", "pretty_name", "tags") if name in header}
    said |= _configs(rows) if report.format == "pickapic" else {}
    table = "\n".join(f"| {split} | {count:,} |" for split, count in rows.items())
    sources = "".join(
        f"- imported: {code(i['source'])}, licence {code(i['license'])}\n" for i in card_sources(line)
    )
    yaml_header = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{yaml_header}---\n\n# Preference pairs as {plain(report.format)}\n\n"
        f"Written by `rpo export`. {text}\n\n"
        f"| split | rows |\n| --- | --- |\n{table}\n\n{report.account}\n\n"
        f"{sources}\n{COUNTS}{_kept(report)} -->\n{mark}\n"
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


COUNTED = ("rows", "left_out", "refused", "changed")


def _kept(report: ExportReport) -> str:
    """The counts of an export as JSON that may stand in a comment."""
    return json.dumps({name: getattr(report, name) for name in COUNTED}).replace(">", "\\u003e")


def _counts(folder: Path) -> dict[str, Any]:
    """The counts of an export that is there."""
    lines = (folder / README).read_text(encoding="utf-8").splitlines()
    kept = next(text for text in reversed(lines) if text.startswith(COUNTS))
    found = json.loads(kept.removeprefix(COUNTS).removesuffix(" -->"))
    return {name: dict(found[name]) for name in COUNTED}
