"""What contradicts a training in rounds; told before anything is made, all at once."""

from rpo_cli.compute import launched
from rpo_cli.config import RoundSettings
from rpo_cli.errors import SettingsError
from rpo_cli.line.preflight import preflight
from rpo_cli.line.rounds.round import pictures_each
from rpo_cli.line.session import Line
from rpo_cli.line.work.prompts import parent_prompts
from rpo_cli.train.compose import composed
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.online.compose import is_online

Checks = list[tuple[bool, str]]


def in_rounds(line: Line) -> bool:
    """Whether the settings ask for rounds of pictures; methods on trajectories have a loop of their own."""
    return bool(line.settings.train.rounds) and not is_online(line.settings.train)


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
    asked = line.settings.rounds.reference if "reference" in asked_now(line) else None
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


def asked_now(line: Line) -> set[str]:
    """Settings of rounds that somebody names, and that are not the default."""
    silent = ("default", f"preset {line.resolved.preset}")
    return {
        name
        for name, field in RoundSettings.model_fields.items()
        if getattr(line.settings.rounds, name) != field.default
        and line.resolved.origins[f"rounds.{name}"] not in silent
    }


def _of_other_methods(line: Line, objective: Objective) -> Checks:
    changed, sapo = asked_now(line), objective.losers == "renoised"
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
