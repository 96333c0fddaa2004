"""`rpo sweep`: trainings of several methods and seeds, one evaluation, and the differences between them.

RUN/train/<sweep>-<variant>-s<seed>/   an ordinary training each, made by an ordinary `rpo train`
RUN/eval/<sweep>/                      the evaluation of all of them beside their base, one of `rpo eval`
RUN/sweep/<sweep>/curves.svg           their curves on one axis
RUN/sweep/<sweep>/results.json         differences between the settings, with intervals; written last
RUN/logs/<training>.log                what the process of a training said

One process a training, one after the other. Whatever is there is found and not made again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rpo_cli.line.evaluation.evaluate import FOLDER as EVALUATIONS
from rpo_cli.line.evaluation.evaluate import PICTURES, Evaluation, evaluate
from rpo_cli.line.evaluation.prompts import request_kept
from rpo_cli.line.session import Line
from rpo_cli.line.sweep.checks import Ready, check_request, prompts_of, ready, refuse_settings
from rpo_cli.line.sweep.trainings import Curves, curves_of, train_all
from rpo_cli.line.sweep.variants import (
    Given,
    Request,
    Training,
    remember,
    request_of,
    state,
    trainings,
    variants,
)
from rpo_cli.metrics.comparison import Difference, differences
from rpo_cli.visuals.bands import overlaid

FOLDER, RESULTS, PLOT = "sweep", "results.json", "curves.svg"


@dataclass(frozen=True)
class Planned:
    """A training of a sweep, and how far it was before the sweep went on."""

    name: str
    setting: str
    method: str
    beta: float | None
    learning_rate: float | None
    seed: int
    state: str


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do.

    Attributes:
        seeds: training seeds of each setting.
        prompts: that the models are measured on. pictures: of each prompt and model.
    """

    name: str
    seeds: tuple[int, ...]
    trainings: tuple[Planned, ...]
    prompts: int
    pictures: int


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    Attributes:
        plot: of the curves; None where the trainings have written no number that could be drawn.
    """

    plan: SweepPlan
    path: str
    plot: str | None
    curves: Curves | None
    differences: tuple[Difference, ...]
    evaluation: Evaluation


def plan_sweep(line: Line, name: str, given: Given, unset: Sequence[str] = ()) -> SweepPlan:
    """What `sweep` would do; trains nothing and writes nothing.

    Raises:
        UsageError: see `sweep`.
    """
    return _looked(line, name, given, unset)[0].plan


def sweep(line: Line, name: str, given: Given, unset: Sequence[str] = ()) -> Sweep:
    """Train every method, beta and learning rate with every seed, evaluate them, and compare them.

    Killed at any moment, the same call goes on. The first setting is the one that all others are compared
    with; how the intervals are made: `evaluation.between.differences`.

    Args:
        line: opened with what every training is told (`train.steps`) and how to run (`run.device`).
        given: fields of `sweep.Asked`; what earlier calls of this name were given counts until given again.
        unset: options and settings for which that is taken back.

    Raises:
        UsageError: a mistake in what is asked for, told before the first training.
        RpoError: a training failed; those before it stay.
    """
    looked, measured = _looked(line, name, given, unset)
    asked, plan = looked.asked, looked.plan
    with line.store.lock(f"sweep-{name}"):
        remember(line, name, asked)
        train_all(line, looked.ready, looked.trainings)
        members = _members(looked.trainings)
        found = _evaluated(measured, name, asked, members)
        return _compared(line, plan, members, found)


def _looked(line: Line, name: str, given: Given, unset: Sequence[str]) -> "tuple[_Looked, Line]":
    refuse_settings(line)
    told = {"options": line.resolved.options("training", earlier=False), **given}
    asked = request_of(line, name, told, unset)
    measured = check_request(line, name, asked)
    grid = variants(asked)
    first = line.settings.train.seed or asked.options.get("train.seed") or 0
    seeds = tuple(range(first, first + asked.seeds))
    wanted = trainings(name, grid, seeds)
    able = ready(line, asked, grid)
    by_label = {one.variant.label: one for one in able}
    planned = tuple(
        Planned(
            *(each.name, each.variant.label, each.variant.method),
            *(by_label[each.variant.label].beta, by_label[each.variant.label].learning_rate),
            *(each.seed, state(line.store, each.name)),
        )
        for each in wanted
    )
    count = len(prompts_of(measured, asked))
    plan = SweepPlan(name, seeds, planned, count, asked.images_per_prompt)
    return _Looked(asked, plan, tuple(able), tuple(wanted)), measured


@dataclass(frozen=True)
class _Looked:
    """A sweep whose every mistake has been told."""

    asked: Request
    plan: SweepPlan
    ready: tuple[Ready, ...]
    trainings: tuple[Training, ...]


# --- what came of it -----------------------------------------------------------------------------------


def _evaluated(line: Line, name: str, asked: Request, members: Mapping[str, Sequence[str]]) -> Evaluation:
    """All settings beside the base; `rpo eval RUN --name NAME` asks the same again."""
    adapters = [f"{label}={','.join(models)}" for label, models in members.items()]
    wanted = {
        "adapter": adapters,
        "prompts": asked.prompts,
        "column": asked.column,
        "limit": asked.limit,
        "images_per_prompt": asked.images_per_prompt,
        "guidance": None if asked.guidance is None else [asked.guidance],
        "reward": list(asked.rewards) or None,
        "measure": asked.measure,
        "allow_training_prompts": asked.allow_training_prompts or None,
    }
    given = {option: value for option, value in wanted.items() if value is not None}
    with request_kept(line, name, given, dict.fromkeys(given)):
        return evaluate(
            line,
            name=name,
            adapters=adapters,
            prompts=None if asked.prompts is None else Path(asked.prompts),
            column=asked.column,
            limit=asked.limit,
            seeds=asked.images_per_prompt,
            guidances=() if asked.guidance is None else (asked.guidance,),
            rewards=asked.rewards,
            measure=asked.measure,
            allow_training_prompts=asked.allow_training_prompts,
        )


def _members(wanted: Sequence[Training]) -> dict[str, list[str]]:
    """Setting → its trainings."""
    found: dict[str, list[str]] = {}
    for training in wanted:
        found.setdefault(training.variant.label, []).append(training.name)
    return found


def _compared(
    line: Line, plan: SweepPlan, members: Mapping[str, Sequence[str]], evaluation: Evaluation
) -> Sweep:
    """Differences and plot, written into RUN/sweep/<name>."""
    name = plan.name
    curves = curves_of(line.store, members)
    files, place = line.store.files, f"{FOLDER}/{name}"
    plot = None
    if curves is not None:
        text = overlaid(curves.bands, title=curves.said, unit=curves.unit)
        files.write(f"{place}/{PLOT}", text.encode())
        plot = str(line.store.path(FOLDER, name, PLOT))
    found = tuple(between(line, name, evaluation.results))
    told = {
        "evaluation": evaluation.results["fingerprint"],
        "seeds": plan.seeds,
        "settings": members,
        "differences": [asdict(one) for one in found],
        "curves": None if curves is None else asdict(curves),
    }
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    files.write(f"{place}/{RESULTS}", text.encode())
    path = str(line.store.path(FOLDER, name, RESULTS))
    return Sweep(plan, path, plot, curves, found, evaluation)


def between(line: Line, name: str, results: Mapping[str, Any]) -> list[Difference]:
    """Differences between the settings of an evaluation of the run, by its pictures; the base is none."""
    settings = {
        row["label"]: row["members"] for row in results["settings"] if row["label"] not in results["bases"]
    }
    rows = line.store.files.read(f"{EVALUATIONS}/{name}/{PICTURES}").decode().splitlines()
    return differences(map(json.loads, rows), settings)
