"""`rpo train --rounds K`: the line walked K times inside a training, each time with the policy so far.

    RUN/train/<name>/settings.json   what is being trained; other settings under the same name are refused
    RUN/train/<name>/rounds/<k>/     a run directory: prompts, images, rewards, pairs, dataset, train
    RUN/train/<name>/metrics.jsonl   one line per round
    RUN/train/<name>/adapter/        the last round's LoRA
    RUN/train/<name>/done.json       written last: the commit

A round generates, scores, builds pairs and trains through the ordinary steps, so each of them goes on after
a kill and does nothing when it is done.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.rounds.checks import check, reference_of
from rpo_cli.line.rounds.measurements import RoundNumbers, measure
from rpo_cli.line.rounds.round import (
    copy_scores,
    give_winners,
    losers_of,
    open_round,
    sampler_of,
    seed_of,
    trained_folder,
    winners,
    write_prompts,
)
from rpo_cli.line.session import Line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.training import add_layouts, check_layouts, fine_tune, own_settings
from rpo_cli.line.work.critics import reward_identity, reward_models
from rpo_cli.line.work.generate import parent_prompts
from rpo_cli.records import content_key
from rpo_cli.train.composition import Start, composed, settled
from rpo_cli.train.run import CHECKPOINTS, SCHEDULE_ONLY, refuse_other

LORA_FILE = "pytorch_lora_weights.safetensors"
# told by content, or of no consequence for the result
ELSEWHERE = {"generate.generator", "generate.revision", "generate.lora", "score.rewards"}
ELSEWHERE |= {"generate.batch_size", "score.batch_size"}


@dataclass(frozen=True)
class RoundsReport:
    """What a training in rounds made; `steps` and `pairs` are those of all rounds together."""

    name: str
    rounds: tuple[RoundNumbers, ...]
    steps: int
    pairs: int
    adapter: Path
    skipped: bool = False


def train_rounds(line: Line) -> RoundsReport:
    """Train in `train.rounds` rounds, going on where an earlier call was cut off.

    A finished training returns at once; asked for more rounds it goes on with them.

    Raises:
        SettingsError: settings that contradict the method or the rounds.
        UsageError: no prompts or winners, or the name belongs to another training.
        RpoError: a round left no pair to train on.
    """
    check(line)
    settings, count = own_settings(line), line.settings.train.rounds or 0
    own = line.store.path("train", settings.name)
    with line.store.lock(f"train-{settings.name}"):
        sources = _sources(line)
        identity = _identity(line, sources)
        if (report := _done(line, own, identity, count)) is not None:
            return report
        _refuse_ordinary(own, settings.name)
        if settings.export:
            check_layouts(line)
        line.record(training=True)
        line.store.files.write(_name(line, "settings.json"), _json({"identity": identity, "rounds": count}))
        write_prompts(line, sources.prompts)
        if line.settings.generate.lora or line.settings.generate.denoiser:
            line.observer.note(
                "the first round draws with the model alone, without generate.lora or denoiser"
            )
        rounds: list[RoundNumbers] = []
        for number in range(1, count + 1):
            rounds.append(_walk(line, number, sources.winners))
            lines = [json.dumps(found.row(), separators=(",", ":")) for found in rounds]
            line.store.files.write(_name(line, "metrics.jsonl"), "".join(f"{x}\n" for x in lines).encode())
        return _finish(line, own, identity, rounds)


@dataclass(frozen=True)
class _Sources:
    """What the rounds start from: prompts, and of self-play the winners with their captions."""

    prompts: Sequence[str]
    winners: dict[str, list[str]]


def _sources(line: Line) -> _Sources:
    if losers_of(line.settings.train) == "given":
        return _Sources(parent_prompts(line), {})
    found = winners(line)
    return _Sources(sorted({caption for captions in found.values() for caption in captions}), found)


def _walk(line: Line, number: int, given: dict[str, list[str]]) -> RoundNumbers:
    """One round, as far as it is not done."""
    nested = open_round(line, number, sampler_of(line, number))
    if given:
        give_winners(line, nested, number, given)
        copy_scores(line, nested, number)
    run_stage(nested, "generate")
    run_stage(nested, "score")
    pairs = build_pairs(nested)
    if not pairs.train:
        why = ", ".join(f"{name} {count}" for name, count in pairs.dropped.items()) or "no candidates"
        raise RpoError(
            f"round {number}: no pair is left to train on, of {pairs.candidates} candidates ({why})",
            "more prompts or rounds.images_per_prompt, or a lower rounds.min_margin; "
            f"`rpo status {nested.store.url}` counts rejected pictures",
        )
    trained = fine_tune(nested, start_of(line, number))
    found = measure(nested, number, pairs, trained)
    if not trained.skipped:
        nested.observer.note(_round_line(found))
    return found


def start_of(line: Line, number: int) -> Start | None:
    """Where the training of a round begins, and what it is relative to; None: with the model alone."""
    reference = reference_of(line, composed(line.settings.train))
    moving = reference == "moving"
    if number == 1:
        return Start(None, None, "model", keep_reference=True) if moving else None
    before = trained_folder(line, number - 1)
    policy = before / "adapter"
    other = before / "reference" if moving else policy if reference == "previous" else None
    hashes = [_sha256(folder / LORA_FILE) if folder else None for folder in (policy, other)]
    return Start(policy, other, content_key("start", hashes), keep_reference=moving)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _round_line(found: RoundNumbers) -> str:
    """ "clip 22.1 ± 0.3 (1.2 over seeds), 12 pairs, 4 inside the noise"."""
    parts = [
        f"{name} {reward.mean:.4g}"
        + (f" ± {reward.error:.2g}" if reward.error is not None else "")
        + f" ({reward.spread:.2g} over seeds)"
        for name, reward in found.rewards.items()
    ]
    return ", ".join([*parts, f"{found.pairs} pairs", f"{found.noise} inside the noise"])


# --- identity and commit -------------------------------------------------------------------------------


def _name(line: Line, file: str) -> str:
    return f"train/{line.settings.train.name}/{file}"


def _identity(line: Line, sources: _Sources) -> dict[str, Any]:
    """Everything that determines the first k rounds, for every k; the number of rounds is no part of it."""
    nested = open_round(line, 1, None)
    # without defaults, so that a setting of a later version does not make another training of this one
    told = nested.settings.model_dump(mode="json", exclude_defaults=True)
    sections = {name: told.get(name, {}) for name in ("generate", "score", "pairs")}
    flat = {
        f"{section}.{key}": value
        for section, values in (sections | {"train": _settled(nested)}).items()
        for key, value in values.items()
        if f"{section}.{key}" not in ELSEWHERE
    }
    s, rounds = nested.settings.generate, line.settings.rounds
    return flat | {
        "model": nested.identity(str(s.generator), s.revision).revision,
        "rewards": {
            name: reward_identity(nested, name, ref)[0].revision for name, ref in reward_models(nested)
        },
        "rounds.reference": reference_of(line, composed(line.settings.train)),
        "rounds.buffer": rounds.buffer if nested.settings.pairs.strategy == "sapo" else 0,
        "prompts": content_key(sorted(sources.prompts)),
        "winners": content_key(sources.winners),
        "seed": seed_of(line),
    }


def _settled(nested: Line) -> dict[str, Any]:
    """The settings of training with the method's own numbers."""
    settings = settled(own_settings(nested))[0]
    return settings.model_dump(mode="json", exclude=set(SCHEDULE_ONLY), exclude_none=True)


def _done(line: Line, own: Path, identity: dict[str, Any], count: int) -> RoundsReport | None:
    """The report of a finished training; None when there is still something to do."""
    files, name = line.store.files, line.settings.train.name
    if not (own / "rounds").exists():
        return None
    found = {
        file: json.loads(files.read(_name(line, file)))
        for file in ("settings.json", "done.json")
        if files.exists(_name(line, file))
    }
    for saved in found.values():
        refuse_other(own, saved["identity"], identity, name)
    done = found.get("done.json")
    if done is None:
        return None
    made = len(done["report"]["rounds"])
    if made > count:
        raise UsageError(
            f"training '{name}' has {made} rounds already, more than {count}",
            f"ask for {made} or more, or give another --name; {own}/rounds holds every round's adapter",
        )
    layouts = [own / "adapter" / layout for layout in line.settings.train.export]
    if made < count or not all(path.exists() for path in (own / "adapter" / LORA_FILE, *layouts)):
        return None
    rounds = tuple(RoundNumbers.read(saved) for saved in done["report"]["rounds"])
    report = done["report"]
    return RoundsReport(name, rounds, report["steps"], report["pairs"], own / "adapter", skipped=True)


def _refuse_ordinary(own: Path, name: str) -> None:
    if not (own / "rounds").exists() and ((own / "done.json").exists() or any(own.glob(CHECKPOINTS))):
        raise UsageError(
            f"training '{name}' was not made in rounds",
            f"give this one a name of its own with --name, or delete {own}",
        )


def _finish(
    line: Line, own: Path, identity: dict[str, Any], rounds: Sequence[RoundNumbers]
) -> RoundsReport:
    """The last round's LoRA in the place of the training's own, then the commit."""
    settings, source = line.settings.train, trained_folder(line, len(rounds)) / "adapter"
    shutil.rmtree(own / "adapter", ignore_errors=True)  # of fewer rounds
    for file in sorted(source.iterdir()):
        if file.is_file():
            line.store.files.write(_name(line, f"adapter/{file.name}"), file.read_bytes())
    if settings.export:
        add_layouts(line, own / "adapter")
    steps, pairs = settings.steps * len(rounds), sum(found.pairs for found in rounds)
    told = {"rounds": [asdict(found) for found in rounds], "steps": steps, "pairs": pairs}
    line.store.files.write(_name(line, "done.json"), _json({"identity": identity, "report": told}))
    return RoundsReport(settings.name, tuple(rounds), steps, pairs, own / "adapter")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
