"""What contradicts a training in rounds, told at the door; and what its rounds would do."""

from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq

from rpo_cli.compute import launched
from rpo_cli.config import RoundSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.line.preflight import preflight
from rpo_cli.line.rounds.round import losers_of, pictures_each, round_folder, trained_folder
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import parent_prompts
from rpo_cli.store import Store, open_store
from rpo_cli.train.composition import composed
from rpo_cli.train.objectives.objective import Objective

Checks = list[tuple[bool, str]]


def check(line: Line) -> None:
    """Refuse what cannot be trained in rounds.

    Raises:
        SettingsError: every contradiction.
        UsageError: no prompts, no reward, or a model that is not there.
    """
    preflight(line, ["rounds", "build-pairs", "train"])
    problems = [problem for wrong, problem in contradictions(line) if wrong]
    if problems:
        raise SettingsError("settings", problems, "`rpo list objectives` shows what each method needs")
    if composed(line.settings.train).losers == "given":
        parent_prompts(line)


def contradictions(line: Line) -> Checks:
    """(whether it holds, what contradicts what)."""
    objective, s = composed(line.settings.train), line.settings
    lists = objective.listwise and objective.list_size > 2
    alone = objective.losers == "given" and pictures_each(line) < 2
    return [
        (s.train.full, "train.full: rounds make pictures with a LoRA"),
        (
            launched().size > 1,
            "train.processes: a launcher would walk the rounds in each process; use --processes N",
        ),
        (not s.score.rewards, "score.rewards: rounds need a reward, and none is set"),
        (
            bool(s.score.functions),
            "score.functions: each round is a run directory, which cannot say whose code to run",
        ),
        (
            _reverses(objective),
            f"train.method: {objective.name} learns what to keep away from, and rounds would draw it",
        ),
        (
            lists,
            f"train.list_size: a round pairs best and worst, and lists have {objective.list_size}",
        ),
        (alone, "rounds.images_per_prompt: one picture of a prompt makes no pair"),
        *_of_the_reference(line, objective),
        *_of_other_methods(line, objective),
    ]


def reference_of(line: Line, objective: Objective) -> str:
    """base, previous, or moving with the policy; "" where no reference runs.

    A band around the policy of the round before is what a proximal method promises; other losses keep the
    model as the anchor that holds the reward's errors in check.
    """
    if objective.reference_every is not None:
        return "moving"
    if not objective.needs_reference:
        return ""
    if objective.losers == "generated":
        return "previous"
    return line.settings.rounds.reference or ("previous" if objective.clip else "base")


def _of_the_reference(line: Line, objective: Objective) -> Checks:
    asked = line.settings.rounds.reference if "reference" in named_settings(line) else None
    found = reference_of(line, objective)
    kept = bool(line.settings.train.reference_draws)
    return [
        (asked is not None and not found, f"rounds.reference: {objective.name} runs no reference"),
        (
            asked is not None and found == "moving",
            "rounds.reference: a reference that moves (train.reference_every) goes on where it was",
        ),
        (
            asked == "base" and objective.losers == "generated",
            f"rounds.reference: the reference of {objective.name} is what made the losers, not the model",
        ),
        (
            kept and found == "previous",
            "train.reference_draws: kept errors are the model's (rounds.reference = 'previous')",
        ),
    ]


def named_settings(line: Line) -> set[str]:
    """Settings of rounds that somebody names, and that are not the default."""
    silent = ("default", f"preset {line.resolved.preset}")
    return {
        name
        for name, field in RoundSettings.model_fields.items()
        if getattr(line.settings.rounds, name) != field.default
        and line.resolved.origins[f"rounds.{name}"] not in silent
    }


def _of_other_methods(line: Line, objective: Objective) -> Checks:
    changed, sapo = named_settings(line), objective.losers == "renoised"
    return [
        ("strengths" in changed and not sapo, "rounds.strengths: only sapo puts noise on winners"),
        ("buffer" in changed and not sapo, "rounds.buffer: only sapo uses losers again"),
        (
            "min_margin" in changed and objective.losers == "generated",
            f"rounds.min_margin: {objective.name} knows its winners, whatever the rewards say",
        ),
    ]


def _reverses(objective: Objective) -> bool:
    from rpo_cli.train.objectives.components import pair_reversed

    return objective.contrast is pair_reversed


State = Literal["done", "begun", "to do"]


@dataclass(frozen=True)
class RoundPlan:
    """One round; what is wanted is an upper bound where the losers of winners are to be made.

    Attributes:
        scored: scores that are there; one for each picture and reward is wanted.
        pairs: accepted ones; None before they are built.
    """

    number: int
    state: State
    pictures: int
    pictures_there: int
    scores: int
    scored: int
    pairs: int | None
    steps: int


def plan_rounds(line: Line) -> list[RoundPlan]:
    """Every round of the training, as far as it is known.

    Raises:
        SettingsError: settings that contradict the method or the rounds.
        UsageError: no prompts, or no dataset to take winners from.
    """
    check(line)
    sources = _sources(line)
    return [_plan(line, number, sources) for number in range(1, (line.settings.train.rounds or 0) + 1)]


def _sources(line: Line) -> int:
    """Prompts, or winners, of a round."""
    if losers_of(line.settings.train) == "given":
        return len(parent_prompts(line))
    files = sorted((line.store.path("dataset") / "data").glob("*.parquet"))
    if not files:
        raise UsageError(
            f"{line.store.path('dataset')}: no dataset yet, and "
            f"{line.settings.train.method} learns from its winners",
            f"rpo build-pairs {line.store.url}",
        )
    return sum(int(pq.read_metadata(file).num_rows) for file in files)


def _plan(line: Line, number: int, sources: int) -> RoundPlan:
    wanted, rewards = sources * pictures_each(line), len(line.settings.score.rewards)
    given = 0 if losers_of(line.settings.train) == "given" else sources
    done = (trained_folder(line, number) / "done.json").is_file()
    try:
        store = open_store(round_folder(line, number), create=False)
    except UsageError:
        store = None
    there = _there(store) if store else (0, 0, None)
    state: State = "done" if done else "begun" if store else "to do"
    steps = line.settings.train.steps
    return RoundPlan(number, state, wanted, there[0], (wanted + given) * rewards, there[1], there[2], steps)


def _there(store: Store) -> tuple[int, int, int | None]:
    """Pictures that the round made, scores, accepted pairs."""
    given = store.read_manifest().get("imports", {})
    pictures = sum(count for group, count in store.counts("images").items() if group not in given)
    verdicts = store.tally("pairs", ["verdict"])
    return pictures, len(store.keys("rewards")), verdicts[("accepted",)] if verdicts else None
