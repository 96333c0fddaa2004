"""Prompts in: each text once; every row of a source is taken, rejected or left out for a reason.

A text stays as it is given, less outer white space and byte-order marks: it is the prompt's identity.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rpo_cli.config import PromptSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.incoming import BadRow
from rpo_cli.exchange.prompt_files import Placed, pick_column, read_values
from rpo_cli.exchange.prompt_text import storable, trimmed, unfit
from rpo_cli.records import Prompt, content_key
from rpo_cli.text import normalised

NAMED = 3  # rejects that are told one by one


@dataclass
class PromptList:
    """What a source of prompts holds.

    Attributes:
        prompts: in the order of their source, each text once, at most `limit`.
        rows: of the source, as far as it was read.
        left_out: reason → rows that are no prompt of the run.
        rejected: where a row stands and what is wrong with it.
        alike: where a prompt stands that differs from an earlier one in nothing that a reader sees; taken.
        kept_out: each list of prompts to leave out → rows of the source that stand in it.
        notes: how the source was read.
        limited: the source was not read to its end.
    """

    source: str
    prompts: list[Prompt] = field(default_factory=list)
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    rejected: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    kept_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    limited: bool = False

    def said(self) -> list[str]:
        """One line that counts every row, and lines for what a user should know."""
        left = [f"{count:,} {reason}" for reason, count in sorted(self.left_out.items())]
        left += [f"{n:,} in {name} (prompts.leave_out)" for name, n in sorted(self.kept_out.items())]
        rejected = [f"{len(self.rejected):,} rejected"] if self.rejected else []
        counts = ", ".join([f"{len(self.prompts):,} taken", *rejected, *left])
        rows = f"{'the first ' * self.limited}{self.rows:,} row{'s' * (self.rows != 1)}"
        said = [*self.notes, f"{self.source}: {rows}: {counts}"]
        if self.rejected:
            said.append(f"{self.source}: no prompts: {_some(self.rejected)}")
        if self.alike:
            what = "differ from an earlier one in case, width, space or unseen characters alone"
            said.append(f"{self.source}: {what}, and are taken: {_some(self.alike)}")
        return said


def _some(items: list[str]) -> str:
    more = f" and {len(items) - NAMED:,} more" if len(items) > NAMED else ""
    return "; ".join(items[:NAMED]) + more


def read_prompts(settings: PromptSettings) -> PromptList:
    """The prompts of a run.

    Raises:
        UsageError: no source, a missing or empty file, an unknown column, or a file that no reading fits.
        RpoError: the dataset cannot be opened.
    """
    if settings.file is not None:
        source = storable(Path(settings.file).name)
        values, notes = read_values(Path(settings.file), settings)
    elif settings.dataset is not None:
        source, values, notes = settings.dataset, _read_dataset(settings), []
    else:
        raise UsageError("no prompts given", "pass --prompts FILE (txt, tsv, csv, json, jsonl, parquet)")
    found = PromptList(source, notes=notes)
    kept_out = left_out(settings)
    found.kept_out = dict.fromkeys(sorted(set(kept_out.values())), 0)
    _take(found, values, kept_out, settings.limit)
    if not found.prompts:
        counts = f" ({'; '.join(found.said())})" if found.rows else ""
        raise UsageError(
            f"{source}: holds no prompts{counts}", "one prompt a line, or --column NAME for a table"
        )
    return found


def left_out(settings: PromptSettings) -> dict[str, str]:
    """Normal form of each prompt of `prompts.leave_out` → the list that it stands in.

    Raises:
        UsageError: a list is missing, or holds no prompts.
    """
    found: dict[str, str] = {}
    for file in settings.leave_out:
        own = read_prompts(PromptSettings(file=file))
        for prompt in own.prompts:
            found.setdefault(normalised(prompt.prompt), own.source)
    return found


def _take(found: PromptList, values: Placed, kept_out: dict[str, str], limit: int | None) -> None:
    texts: set[str] = set()
    forms: set[str] = set()
    for place, value in values:
        if len(found.prompts) == limit:
            found.limited = True
            return
        found.rows += 1
        if value is None:
            found.left_out["without a value in the column"] += 1
            continue
        wrong = (value.reason, value.detail) if isinstance(value, BadRow) else unfit(value)
        if wrong is not None:
            found.rejected.append(f"{place}: {wrong[1]}")
            continue
        text, form = trimmed(value), normalised(value)
        if not form:
            found.left_out["blank"] += 1
        elif text in texts:
            found.left_out["doubled"] += 1
        elif form in kept_out:
            found.kept_out[kept_out[form]] += 1
        else:
            if form in forms:
                found.alike.append(f"{place}: {text[:60]!r}")
            texts.add(text)
            forms.add(form)
            key = content_key("prompt", text)
            found.prompts.append(Prompt(prompt_id=key, prompt=text, source=found.source))


def _read_dataset(settings: PromptSettings) -> Iterator[tuple[str, object]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    assert settings.dataset is not None
    try:
        rows = load_dataset(settings.dataset, split=settings.split, streaming=True).resolve_features()
    except (DatasetNotFoundError, OSError, ValueError) as error:
        raise RpoError(
            f"dataset {settings.dataset}: cannot be opened: {error}",
            "check its name, --set prompts.split=..., and the network",
        ) from error
    column = pick_column(list(rows.column_names), settings.dataset, settings.column)
    # without the other columns no image or audio of the dataset is decoded
    chosen = rows.select_columns([column])
    return ((f"row {number:,}", row[column]) for number, row in enumerate(chosen))
