"""What would stop a sweep after hours of training, found before the first of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli import registry
from rpo_cli.compute import launched
from rpo_cli.errors import RpoError, SettingsError, UsageError
from rpo_cli.line.evaluation.evaluate import check_measure, checked_name
from rpo_cli.line.evaluation.measurements import checked_guidances
from rpo_cli.line.evaluation.nested import tuned_model
from rpo_cli.line.evaluation.prompts import held_out_prompts, prompts_of_file
from rpo_cli.line.preflight import preflight
from rpo_cli.line.rounds.checks import check as check_rounds
from rpo_cli.line.session import Line, open_line
from rpo_cli.line.sweep.variants import FINISHED, ITSELF, Request, Training, Variant, state
from rpo_cli.line.training import dataset_of, fine_tune, own_settings
from rpo_cli.resolve import NO_PRESET
from rpo_cli.train.composition import in_rounds, is_online
from rpo_cli.train.data.pairs import rows_of_split
from rpo_cli.train.run import result_folder

STEPS = "train.steps"


@dataclass(frozen=True)
class Ready:
    """A variant that can be trained: what is said to each training of it, and the numbers it will have.

    Attributes:
        options: dotted setting → value, with those of the command.
        beta, learning_rate: None: the method has none.
    """

    variant: Variant
    options: dict[str, Any]
    beta: float | None
    learning_rate: float | None


def check_request(line: Line, name: str, asked: Request) -> Line:
    """Refuse names, prompts, rewards and a measure that are no use; returns the line to evaluate with.

    Raises:
        UsageError: the first mistake.
    """
    checked_name(name)
    if launched().size > 1:
        raise UsageError(
            "a sweep starts processes of its own, and this is one of several of a launcher",
            "start it without the launcher; --set train.processes=N trains on N GPUs at a time",
        )
    for method in asked.methods:
        registry.locate("objectives", method)
    if asked.column and asked.prompts is None:
        raise UsageError("--column names a column of --prompts", "pass --prompts FILE")
    measured = _measured_by(line, asked)
    checked_guidances([] if asked.guidance is None else [asked.guidance], None)
    prompts = prompts_of(measured, asked)
    if asked.measure is not None:
        check_measure(asked.measure, prompts)
    return measured


def refuse_settings(line: Line) -> None:
    """Raises UsageError for settings that are none of a training, or that each has of its own."""
    if kept := line.resolved.options("run", earlier=False):
        raise UsageError(
            f"{', '.join(kept)}: of the run itself, and a sweep changes nothing of that",
            f"give it to the command that makes the rows, or write it into {line.store.url}/rpo.toml",
        )
    told = {
        **line.resolved.options("training", earlier=False),
        **line.resolved.options("command", earlier=False),
    }
    if taken := sorted(ITSELF & told.keys() - {"train.seed"}):
        raise UsageError(f"--set {taken[0]}: a sweep gives each training its own", "leave it out")


def _measured_by(line: Line, asked: Request) -> Line:
    """The run as the evaluation opens it: with the model that is tuned, and the rewards asked for."""
    model = {key: value for key, value in asked.options.items() if key == "train.model"}
    found = opened(line, model)
    if not (asked.rewards or found.settings.score.named or asked.measure):
        raise UsageError("no reward is set", "pass --reward NAME=FOLDER or --measure NAME")
    if asked.rewards or found.settings.score.named:
        rewards = {"score.rewards": list(asked.rewards)} if asked.rewards else {}
        preflight(opened(line, {**model, **rewards, "pairs.strategy": "seeds"}), ["build-pairs"])
    tuned_model(found)
    return found


def prompts_of(line: Line, asked: Request) -> Sequence[str]:
    """Those that the trainings are measured on."""
    if asked.prompts is None:
        return held_out_prompts(line, asked.limit).texts
    seen, file = asked.allow_training_prompts, Path(asked.prompts)
    return prompts_of_file(line, file, asked.column, asked.limit, allow_seen=seen).texts


def opened(line: Line, options: Mapping[str, Any]) -> Line:
    """The run again, with what the command was told and `options`, without a word."""
    return open_line(
        line.store.url,
        {**command_options(line), **options},
        preset=None if line.resolved.preset == NO_PRESET else line.resolved.preset,
        create=False,
        command=line.command,
    )


def command_options(line: Line) -> dict[str, Any]:
    """How to run, as this command was told: device, threads and the like."""
    told = line.resolved.options("command", earlier=False)
    return {name: value for name, value in told.items() if name not in ITSELF}


def ready(line: Line, asked: Request, grid: Sequence[Variant]) -> list[Ready]:
    """Every variant, checked as `rpo train` checks it.

    Raises:
        SettingsError: all that contradicts the methods, or each other.
        UsageError: there is nothing to learn from, or another single mistake.
    """
    found: list[Ready] = []
    errors: list[RpoError] = []
    for variant in grid:
        try:
            found.append(_ready(line, asked, variant))
        except (SettingsError, UsageError) as error:
            errors.append(error)
    _raise(errors)
    online = [one.variant.method for one in found if STEPS not in one.options and STEPS in asked.options]
    if online:
        line.say(f"{STEPS} does not count for {', '.join(dict.fromkeys(online))}: it counts rounds")
    return found


def _ready(line: Line, asked: Request, variant: Variant) -> Ready:
    options = {**command_options(line), **asked.options, **variant.options}
    options = {name: value for name, value in options.items() if name not in ITSELF - {"train.method"}}
    own = opened(line, options)
    if STEPS in options and is_online(own.settings.train):
        options.pop(STEPS)
        own = opened(line, options)
    _require_beta(variant)
    preflight(own, ["train"])
    if in_rounds(own.settings.train):
        check_rounds(own)
    elif not is_online(own.settings.train):
        _require_pairs(own)
    settings = own_settings(own)
    return Ready(variant, options, settings.beta, settings.learning_rate)


def _require_beta(variant: Variant) -> None:
    objective = registry.load("objectives", variant.method)
    if variant.beta is not None and objective.default_beta is None:
        raise SettingsError(
            "settings",
            [f"train.beta: {variant.method} has none"],
            "leave out --beta, or sweep the methods without one by themselves",
        )


def _require_pairs(own: Line) -> None:
    dataset = dataset_of(own, own.settings.train)
    if rows_of_split(dataset) is None:
        raise UsageError(f"{dataset}: no dataset yet", f"rpo build-pairs {own.store.url}")


def _raise(errors: Sequence[RpoError]) -> None:
    """One error as it is; of several each problem once."""
    unique = {error.message: error for error in errors}
    if len(unique) == 1:
        raise next(iter(unique.values()))
    if unique:
        problems: dict[str, None] = {}
        for error in unique.values():
            problems |= dict.fromkeys(
                error.problems if isinstance(error, SettingsError) else [error.message]
            )
        hints = dict.fromkeys(error.hint for error in unique.values())
        raise SettingsError("settings of the trainings", list(problems), "; ".join(hints))


def is_finished(line: Line, told: Ready, training: Training) -> bool:
    """Whether a training is finished; what bears its name and is another one is refused.

    Raises:
        UsageError: it was made with other settings or on other pairs.
    """
    if state(line.store, training.name) != FINISHED:
        return False
    own = opened(line, {**told.options, "train.name": training.name, "train.seed": training.seed})
    settings = own.settings.train
    result = result_folder(line.store.path("train", training.name), settings.full)
    if settings.rounds or not result.is_dir():
        return False  # `rpo train` looks whether as many rounds are there as are asked for
    fine_tune(own)
    return True
