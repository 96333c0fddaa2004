"""One round of a training: a nested run whose settings, prompts and given pictures follow from its parent.

RUN/train/<name>/rounds/<k>/ is a run directory like any other, walked by the same steps. What it makes
never reaches the tables or the dataset of RUN.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.exchange.raw_rows import json_line
from rpo_cli.line.imports.sources import import_groups, imported
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.models import model_of
from rpo_cli.line.work.score import score_works
from rpo_cli.pictures import decode
from rpo_cli.protocols import Observer
from rpo_cli.records import Image, ImageData, Row, canonical_json, content_key, row_seed
from rpo_cli.resolve import resolve
from rpo_cli.scopes import GENERATOR, HANGS
from rpo_cli.settings_checks import DEFAULT
from rpo_cli.store import open_store
from rpo_cli.text import split_of
from rpo_cli.train.composition import composed

STRATEGY = {"given": "seeds", "generated": "spin", "renoised": "sapo"}  # by the objective's losers
SEEDS, LOSERS = 4, 2  # pictures of a prompt, or of a winner, unless the settings say another number
# less than the standard deviation over start seeds is what another start noise gives or takes
NOISE = 1.0
PROMPTS = "prompts.jsonl"
# of the parent's settings, those that a round has in its own way
OWN = {"train.rounds", "train.seed", "train.model", "train.export", "generate.lora", "generate.denoiser"}
CHUNK = 64


def rounds_folder(line: Line) -> Path:
    return line.store.path("train", line.settings.train.name, "rounds")


def round_folder(line: Line, number: int) -> Path:
    """RUN/train/<name>/rounds/<number>; rounds count from 1."""
    return rounds_folder(line) / str(number)


def trained_folder(line: Line, number: int) -> Path:
    """Where a round's own training lies."""
    return round_folder(line, number) / "train" / line.settings.train.name


class InRound:
    """An observer that says which round a stage is of."""

    def __init__(self, observer: Observer, number: int, count: int) -> None:
        self._observer, self._where = observer, f"round {number}/{count}"

    def start(self, stage: str, total: int, present: int) -> None:
        self._observer.start(f"{self._where} {stage}", total, present)

    def advance(self, rows: int, rejects: int) -> None:
        self._observer.advance(rows, rejects)

    def finish(self) -> None:
        self._observer.finish()

    def note(self, text: str) -> None:
        self._observer.note(f"{self._where}: {text}")


def open_round(line: Line, number: int, sampler: Path | None, *, create: bool = True) -> Line:
    """The nested run of a round.

    Args:
        sampler: LoRA folder of the policy that makes its pictures; None: the model alone.
    """
    options = round_settings(line, number, sampler)
    resolved = resolve(options, preset=line.resolved.preset)
    store = open_store(round_folder(line, number), create=create)
    observer = InRound(line.observer, number, line.settings.train.rounds or number)
    # the commit of a model is the parent's: a branch that moves between rounds must not split a training
    return Line(store, resolved, observer, identities=dict(line.identities), nested=True)


def round_settings(line: Line, number: int, sampler: Path | None) -> dict[str, Any]:
    """Dotted settings of a round: what the parent was told, and what makes it a round."""
    s, losers = line.settings, losers_of(line.settings.train)
    values = s.model_dump(mode="json")
    told = {
        f"{section}.{key}": values[section][key]
        for section, key in (
            name.split(".")
            for name, origin in line.resolved.origins.items()
            if origin not in ("default", f"preset {line.resolved.preset}") and name not in OWN
        )
        if section != "prompts"
    }
    model, revision = model_of(line, s.train)
    own = {
        "run.seed": row_seed(seed_of(line), "round", number),
        "prompts.file": str(rounds_folder(line) / PROMPTS),
        "prompts.column": "prompt",
        "generate.generator": model,
        "generate.revision": revision,
        "generate.images_per_prompt": pictures_each(line),
        "generate.lora": str(sampler) if sampler else None,
        "generate.strengths": s.rounds.strengths if losers == "renoised" else (),
        "pairs.strategy": STRATEGY[losers],
        "pairs.min_margin": min_margin(line),
    }
    others = HANGS[(GENERATOR,)] if model != s.generate.generator else ()  # numbers of another model
    said = {
        name: DEFAULT if value is None else value
        for name, value in told.items()
        if name not in own and name not in others
    }
    return said | {name: value for name, value in own.items() if value is not None}


def losers_of(settings: TrainSettings) -> str:
    """given, generated or renoised, as the method says."""
    return composed(settings).losers


def pictures_each(line: Line) -> int:
    """Pictures of a prompt, or losers of a winner, in a round."""
    asked = line.settings.rounds.images_per_prompt
    return asked or (SEEDS if losers_of(line.settings.train) == "given" else LOSERS)


def min_margin(line: Line) -> float:
    """Below this a pair is noise of the start seed, in its standard deviations.

    The two sides of a sapo pair differ by what was made anew of one of them: there only the sign counts.
    """
    asked = line.settings.rounds.min_margin
    default = NOISE if losers_of(line.settings.train) == "given" else 0.0
    return default if asked is None else asked


def seed_of(line: Line) -> int:
    """The seed of the whole training."""
    s = line.settings
    return s.run.seed if s.train.seed is None else s.train.seed


# --- prompts -------------------------------------------------------------------------------------------


def write_prompts(line: Line, prompts: Iterable[str]) -> None:
    """The list that every round reads."""
    text = "".join(json_line({"prompt": prompt}) for prompt in prompts)
    name = f"train/{line.settings.train.name}/rounds/{PROMPTS}"
    if not (line.store.files.exists(name) and line.store.files.read(name) == text.encode()):
        line.store.files.write(name, text.encode())


# --- given pictures ------------------------------------------------------------------------------------


def winners(line: Line) -> dict[str, list[str]]:
    """SHA-256 of each picture that won in RUN/dataset → the captions it won under; none of them is empty.

    A caption that is held out in RUN/dataset stays held out.

    Raises:
        UsageError: there is no dataset, or it cannot be trained on.
    """
    from rpo_cli.train.data.pairs import read_pairs, split_files

    dataset = line.store.path("dataset")
    if not split_files(dataset, "train"):
        method = line.settings.train.method
        raise UsageError(
            f"{dataset}: no dataset yet, and {method} learns from its winners",
            f"rpo build-pairs {line.store.url}",
        )
    found: dict[str, set[str]] = defaultdict(set)
    for split in ("train", "validation"):
        for pair in read_pairs(dataset, split):
            own = split_of(pair.caption, line.settings.pairs.val_fraction)
            if pair.caption.strip() and (split == "train" or own == split):
                found[pair.winner].add(pair.caption)
    return {sha: sorted(captions) for sha, captions in sorted(found.items())}


def give_winners(line: Line, nested: Line, number: int, found: dict[str, list[str]]) -> None:
    """Put winners of RUN/dataset, and what earlier rounds made to lose to them, into a round's tables.

    The entry in run.json is the commit.
    """
    ids = [content_key("given", sha, caption) for sha, captions in found.items() for caption in captions]
    losers = replayed(line, number)
    keys = [key for _, chosen in losers for key in chosen]
    group = f"given-{content_key(sorted(ids), sorted(keys))[:8]}"
    if group in import_groups(nested):
        return
    _commit(nested, "images", _winner_rows(line, found), group)
    for earlier, chosen in losers:
        _commit(nested, "images", earlier.store.fetch("images", set(chosen)), group)
    about = {
        "source": "winners of the run's own dataset",
        "format": "rpo",
        "license": "unknown",
    }
    nested.record(imports={group: about})


def _commit(line: Line, table: str, rows: Iterable[Row], group: str) -> None:
    left = iter(rows)
    while chunk := list(islice(left, CHUNK)):
        line.store.commit(table, chunk, group=group)


def _winner_rows(line: Line, found: dict[str, list[str]]) -> Iterator[Image]:
    from rpo_cli.train.data.pairs import pictures

    for sha, data, where in pictures(line.store.path("dataset"), found.keys()):
        picture = decode(data, where)
        for caption in found[sha]:
            yield Image(
                image_id=content_key("given", sha, caption),
                prompt_id=content_key("prompt", caption),
                prompt=caption,
                index=0,
                seed=0,
                sha256=sha,
                width=picture.width,
                height=picture.height,
                image=ImageData(bytes=data),
                batch_size=1,
                settings=canonical_json({"import": "winner"}),
                environment=canonical_json({}),
                kind="import",
            )


def replayed(line: Line, number: int) -> list[tuple[Line, list[str]]]:
    """Losers that sapo uses again in round `number`, the newest first, with the round that holds them.

    SAPO's replay buffer: first in, first out. Its draw by 1/(1 + uses) has no counterpart here: an epoch
    uses every pair once before any twice.
    """
    if losers_of(line.settings.train) != "renoised":
        return []
    found, left = [], line.settings.rounds.buffer
    for earlier in range(number - 1, 0, -1):
        source = open_round(line, earlier, sampler_of(line, earlier), create=False)
        pairs = source.store.columns("pairs", ["b_id", "verdict"]).to_pylist()
        accepted = {row["b_id"] for row in pairs if row["verdict"] == "accepted"}
        chosen = sorted(accepted & generate_work(source).keys)[:left]
        found += [(source, chosen)] if chosen else []
        left -= len(chosen)
    return found


def copy_scores(line: Line, nested: Line, number: int) -> None:
    """Scores of given pictures that the round before has: the same model scored the same bytes."""
    if number == 1 or not imported(nested, "images"):
        return
    before = open_store(round_folder(line, number - 1), create=False)
    for work in score_works(nested):
        known = work.keys & before.keys("rewards") - nested.store.keys("rewards")
        _commit(nested, "rewards", before.fetch("rewards", known), work.group)


def sampler_of(line: Line, number: int) -> Path | None:
    """The LoRA that makes a round's pictures: the policy, or with sapo its average; None: the model."""
    if number == 1:
        return None
    part = "reference" if losers_of(line.settings.train) == "renoised" else "adapter"
    return trained_folder(line, number - 1) / part
