"""eval: base against tuned models on the same prompts and start noise, with the line's own stages.

RUN/eval/<name>/prompts.jsonl      what was asked
RUN/eval/<name>/<model>/           a run directory each, with pictures and scores; never part of RUN's data
RUN/eval/<name>/<model>@<number>/  the same at another guidance than RUN's
RUN/eval/<name>/pictures.jsonl     a line per picture with its numbers
RUN/eval/<name>/results.json       figures with intervals; written last
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpo_cli import registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.evaluation.measurements import at_guidances, checked_guidances, is_base
from rpo_cli.line.evaluation.models import Setting, contenders, refuse_other_bases
from rpo_cli.line.evaluation.nested import nested_line, noise_seed, of_their_base, tuned_model
from rpo_cli.line.evaluation.prompts import Prompts, held_out_prompts, prompt_lines, prompts_of_file
from rpo_cli.line.preflight import preflight
from rpo_cli.line.session import Line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.score import score_works
from rpo_cli.records import content_key
from rpo_cli.store import Store

if TYPE_CHECKING:
    from rpo_cli.line.evaluation.measurements import Sheet

FOLDER, RESULTS, PICTURES, PROMPTS = "eval", "results.json", "pictures.jsonl", "prompts.jsonl"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
FIGURES = 2  # counts the ways in which results were computed from pictures and scores
SEEDS = 4


@dataclass(frozen=True)
class Evaluation:
    """Where the results are, what they say, and whether they were there before."""

    path: str
    results: dict[str, Any]
    skipped: bool = False


@dataclass(frozen=True)
class _Plan:
    """An evaluation, before anything heavy is loaded: a line per model and guidance, the base first."""

    prompts: Prompts
    seed: int
    seeds: int
    measure: str | None
    settings: list[Setting]
    lines: dict[str, Line] = field(default_factory=dict)


def evaluate(
    line: Line,
    *,
    name: str = "default",
    adapters: Sequence[str] = (),
    prompts: Path | None = None,
    column: str | None = None,
    limit: int | None = None,
    seeds: int = SEEDS,
    seed: int | None = None,
    guidances: Sequence[float] = (),
    rewards: Sequence[str] = (),
    measure: str | None = None,
    allow_training_prompts: bool = False,
) -> Evaluation:
    """Measure the base and tuned models; a finished evaluation is read, an interrupted one goes on.

    Args:
        adapters: see `contenders`; nothing: every finished training of the run.
        prompts: a file; None: the run's held-out prompts. limit: the first N of them, by their hash.
        seeds: pictures per prompt, each of its own start noise, which is the same for every model.
        seed: that the start noises come from; None: one of its own, made from the run's.
        guidances: each model is sampled at each, beside the base at the same one; nothing: at the run's. No
            setting of the run changes.
        rewards: NAME=FOLDER_OR_HUB_ID; nothing: the run's.
        measure: a name of the registry's `measures`, which must know the prompts.

    Raises:
        UsageError: whatever is wrong with names, folders or prompts, before a model loads.
        RpoError: no picture was made.
    """
    checked_name(name)
    own = line.settings.generate.guidance
    asked_at = checked_guidances(guidances, own)
    models, settings = contenders(line, adapters)
    line = of_their_base(line, models)
    asked = (
        held_out_prompts(line, limit)
        if prompts is None
        else prompts_of_file(line, prompts, column, limit, allow_seen=allow_training_prompts)
    )
    noise = noise_seed(line, seed)
    every, table = at_guidances(models, settings, asked_at, own)
    plan = _Plan(asked, noise, seeds, measure, table)
    base = tuned_model(line)
    refuse_other_bases(models, line.identity(base, line.settings.generate.revision).revision)
    with line.store.lock(f"eval-{name}"):
        line.store.files.write(f"{FOLDER}/{name}/{PROMPTS}", prompt_lines(asked))
        told = {
            "prompts.file": str(line.store.path(FOLDER, name, PROMPTS)),
            "generate.images_per_prompt": seeds,
            "run.seed": noise,
            **({"score.rewards": list(rewards)} if rewards else {}),
        }
        for model in every:
            plan.lines[model.label] = nested_line(line, (FOLDER, name, model.label), model, told)
        _check(plan)
        return _measured(line, name, plan)


def checked_name(name: str) -> None:
    """Raises UsageError for a name that is no plain folder name."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: letters, digits, dots, dashes and underscores only", "--name first"
        )


def _check(plan: _Plan) -> None:
    """Names and folders of every model, and whether the measure knows the prompts.

    Raises:
        UsageError: nothing to measure with, or the first mistake.
    """
    rewards = next(iter(plan.lines.values())).settings.score.named
    if not rewards and plan.measure is None:
        raise UsageError("no reward is set", "pass --reward NAME=FOLDER or --measure NAME")
    for line in plan.lines.values():
        preflight(line, ["generate", "build-pairs"])
    if plan.measure is not None:
        check_measure(plan.measure, plan.prompts.texts)


def check_measure(name: str, prompts: Sequence[str]) -> None:
    """Raises UsageError where there is no such measure, or it knows nothing of a prompt."""
    from PIL import Image

    measure = registry.load("measures", name)
    for text in prompts:
        measure(Image.new("RGB", (64, 64)), text)


def _measured(line: Line, name: str, plan: _Plan) -> Evaluation:
    rejected = {}
    for label, nested in plan.lines.items():
        made = run_stage(nested, "generate")
        if not made.present + made.made:
            raise RpoError(
                f"{label}: none of {made.wanted:,} pictures was accepted ({made.rejects})",
                f"`rpo status {nested.store.url}` counts the reasons",
            )
        rejected[label] = {**made.rejects, **run_stage(nested, "score").rejects}
    place = f"{FOLDER}/{name}/{RESULTS}"
    path = line.store.path(FOLDER, name, RESULTS)
    fingerprint = _fingerprint(plan)
    known = read_json(line.store, place)
    if known.get("fingerprint") == fingerprint:
        return Evaluation(str(path), known, skipped=True)
    if known:
        line.say(_replaced(name, known, plan))
    results = _results(line, name, plan, rejected, fingerprint)
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    line.store.files.write(place, text.encode())
    return Evaluation(str(path), results)


def _replaced(name: str, known: dict[str, Any], plan: _Plan) -> str:
    """What an evaluation of the same name measured before, and what it measures now."""
    models = [", ".join(row["label"] for row in known.get("settings", ()))]
    models.append(", ".join(setting.label for setting in plan.settings))
    prompts = [known.get("prompts", {}).get("count", 0), len(plan.prompts.texts)]
    told = [f"{count:,} prompts, {labels}" for count, labels in zip(prompts, models, strict=True)]
    if told[0] == told[1]:
        told[1] = "the same, by other settings, seeds or pictures"
    return f"evaluation '{name}' is replaced: it was of {told[0]}; it is of {told[1]}"


def _fingerprint(plan: _Plan) -> str:
    """Of all that the figures are computed from; a row's key stands for the row."""
    keys = []
    for label, line in plan.lines.items():
        wanted = {key for work in score_works(line) for key in work.keys}
        scores = sorted(line.store.keys("rewards") & wanted)
        images = sorted(line.store.keys("images") & generate_work(line).keys)
        keys.append([label, images, scores])
    settings = [[setting.label, setting.members, setting.beside] for setting in plan.settings]
    asked = [plan.prompts.texts, plan.prompts.source, plan.seeds, plan.seed, measure_key(plan.measure)]
    return content_key("eval", FIGURES, asked, settings, keys)


def measure_key(name: str | None) -> Any:
    """A measure in the key of what it judged: its name; of a third party's its version and place too."""
    return name and (registry.code_of("measures", name) or name)


def read_json(store: Store, place: str) -> dict[str, Any]:
    """A JSON object of the run directory; {} when there is none, or something else."""
    if not store.files.exists(place):
        return {}
    try:
        found = json.loads(store.files.read(place))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _results(
    line: Line, name: str, plan: _Plan, rejected: dict[str, dict[str, int]], fingerprint: str
) -> dict[str, Any]:
    from rpo_cli.line.evaluation.measurements import picture_lines, sheet, without_looks
    from rpo_cli.metrics.comparison import against_base, of_models
    from rpo_cli.metrics.looks import DISTANCES

    measure = registry.load("measures", plan.measure) if plan.measure else None
    read = partial(sheet, seeds=plan.seeds, measure=measure)
    beside = {label: setting.beside for setting in plan.settings for label in setting.members}
    whole: dict[str | None, Sheet] = {}  # the bases; of tuned models one's pictures in memory at a time
    sheets: dict[str, Sheet] = {}
    for label, nested in plan.lines.items():
        found = read(nested, whole.get(beside[label]))
        if label in beside.values():
            whole[label] = found
        sheets[label] = without_looks(found)
    rows = [picture_lines(label, found) for label, found in sheets.items()]
    line.store.files.write(f"{FOLDER}/{name}/{PICTURES}", "".join(rows).encode())
    measured = {label: found.measured for label, found in sheets.items()}
    table: list[dict[str, Any]] = []
    for setting in plan.settings:
        models, base = [measured[label] for label in setting.members], setting.beside
        ours = measured[base or setting.label]
        row = {"label": setting.label, "members": list(setting.members), "guidance": setting.guidance}
        row |= of_models(models, ours)
        beside_it = {"beside": base, "against_base": against_base(models, ours)} if base else {}
        table.append({**row, **beside_it})
    return {
        "fingerprint": fingerprint,
        "prompts": {
            "count": len(plan.prompts.texts),
            "source": plan.prompts.source,
            "trained_on": plan.prompts.trained_on,
        },
        "seeds": plan.seeds,
        "seed": plan.seed,
        "measure": plan.measure,
        "distances": DISTANCES,
        "rejected": rejected,
        "bases": {setting.label: setting.guidance for setting in plan.settings if is_base(setting)},
        "settings": table,
    }
