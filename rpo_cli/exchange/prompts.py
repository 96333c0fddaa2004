"""Prompts in: each text once; every row of a source is taken, rejected or left out for a reason."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli.config import PromptSettings
from rpo_cli.errors import UsageError, nearest
from rpo_cli.records import HOLE, Prompt, template
from rpo_cli.text import MARK, delimiter_of, known_encoding, lines, normalised, read_text

MAX_CHARACTERS = 10_000


def trimmed(text: str) -> str:
    """A text less outer white space and byte-order marks; whatever is inside stays."""
    before = ""
    while text != before:
        before, text = text, text.strip().strip(MARK)
    return text


def unfit(value: Any) -> tuple[str, str] | None:
    """Why a value cannot be a prompt, in a word and in a sentence; None for one that can."""
    if not isinstance(value, str):
        return "no_prompt", _no_text(value)
    length = len(trimmed(value)) if len(value) > MAX_CHARACTERS else 0
    if length > MAX_CHARACTERS:
        return "long_prompt", f"{length:,} characters, more than {MAX_CHARACTERS:,}"
    half = half_character(value)
    return None if half is None else ("bad_text", f"the prompt {half}")


def half_character(text: str) -> str | None:
    """What of a text cannot be stored; None where all of it can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (U+{ord(text[error.start]):04X}), which no file can hold"
    return None


def _no_text(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN is no text"
    kinds = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        bytes: "bytes",
        type(None): "nothing",
    }
    kind = next((name for known, name in kinds.items() if isinstance(value, known)), None)
    shown = repr(value)[:60].encode("utf-8", "backslashreplace").decode()
    return f"{kind or type(value).__name__} is no text: {shown}"


def storable(name: str) -> str:
    """A file's name as text that can be kept: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


SUFFIXES = (".txt", ".tsv", ".csv", ".json", ".jsonl", ".ndjson", ".parquet")
Placed = Iterator[
    tuple[str, Any]
]  # where a value stands ("line 3", "row 3"), and the value, or why it is none


def read_values(path: Path, s: PromptSettings) -> tuple[Placed, list[str]]:
    """The values of a file's prompts, and what is to be said of how it was read.

    A table's value is whatever stands in the column: None where there is nothing; it may be no text.

    Raises:
        UsageError: no such file, an ending that is none of SUFFIXES, text in another encoding, a table
            that no reading fits, JSON that is none, or which column is not known.
    """
    if not path.is_file():
        siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{path}: no such file{nearest(str(path), siblings)}", "pass --prompts FILE")
    known_encoding(s.encoding)
    delimiter, ending = delimiter_of(s.delimiter), path.suffix.lower()
    if ending not in SUFFIXES:
        raise UsageError(
            f"{path}: prompts cannot be read from '{path.suffix}'", f"use one of {', '.join(SUFFIXES)}"
        )
    if ending == ".txt":
        found = lines(read_text(path, s.encoding))
        return ((f"line {number:,}", line) for number, line in enumerate(found, 1)), _odd(found, path)
    from rpo_cli.exchange.prompt_columns import values_of_file

    return values_of_file(path, ending, s, delimiter)


def _odd(found: list[str], path: Path) -> list[str]:
    """What a text's lines look like that they are not read as."""
    ends = sum(line.rstrip("\r").count("\r") for line in found)
    said = []
    if ends:
        said.append(f"{path.name}: {ends:,} lone carriage returns are part of the text, no ends of lines")
    if len(found) > 1 and all("\t" in line for line in found if line.strip()):
        said.append(f"{path.name}: every line holds a tab, and is read whole; a table's name ends in .tsv")
    return said


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

    def account(self) -> list[str]:
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
        from rpo_cli.exchange.prompt_columns import values_of_dataset

        source, values, notes = settings.dataset, values_of_dataset(settings.dataset, settings), []
    else:
        raise UsageError("no prompts given", "pass --prompts FILE (txt, tsv, csv, json, jsonl, parquet)")
    found = PromptList(source, notes=notes)
    kept_out = left_out(settings)
    found.kept_out = dict.fromkeys(sorted(set(kept_out.values())), 0)
    _take(found, values, kept_out, settings.limit)
    if not found.prompts:
        counts = f" ({'; '.join(found.account())})" if found.rows else ""
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
    key = template("prompt", HOLE)
    for place, value in values:
        if len(found.prompts) == limit:
            found.limited = True
            return
        found.rows += 1
        if value is None:
            found.left_out["without a value in the column"] += 1
            continue
        wrong = ("", str(value)) if isinstance(value, Exception) else unfit(value)
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
            prompt_id = key(text).hex()
            found.prompts.append(Prompt(prompt_id=prompt_id, prompt=text, source=found.source))
