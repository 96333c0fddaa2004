"""A nested run of one model: pictures by the run's settings that are never part of the run's own data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rpo_cli.errors import RpoError
from rpo_cli.line.evaluation.models import Contender
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import REACHED, required
from rpo_cli.protocols import Observer
from rpo_cli.records import row_seed
from rpo_cli.resolve import resolve
from rpo_cli.scopes import GENERATOR, HANGS, MODEL
from rpo_cli.settings_checks import DEFAULT
from rpo_cli.store import open_store

# settings of the run that it shares; what makes the pictures and what scores them
SHARED = ("run", "generate", "score")
OWN = {"generate.generator", "generate.lora", "generate.denoiser", "generate.images_per_prompt", "run.seed"}


@dataclass
class Under:
    """An observer that says which model a stage works for."""

    label: str
    observer: Observer

    def start(self, stage: str, total: int, present: int) -> None:
        self.observer.start(f"{self.label}: {stage}", total, present)

    def advance(self, rows: int, rejects: int) -> None:
        self.observer.advance(rows, rejects)

    def finish(self) -> None:
        self.observer.finish()

    def note(self, text: str) -> None:
        self.observer.note(f"{self.label}: {text}")


def tuned_model(line: Line) -> str:
    """The model that trainings of this run tune."""
    return line.settings.train.model or required(line.settings.generate.generator, "generate.generator")


def of_their_base(line: Line, models: Sequence[Contender]) -> Line:
    """The run as the models' own trainings had it: one that named its model has kept it by its name."""
    tuned = {model.trained_on for model in models if model.trained_on is not None}
    named = {
        str(told.options[MODEL])
        for told in line.resolved.earlier.trainings.values()
        if told.options.get(MODEL) is not None
    }
    for model in sorted(named):
        if tuned == {_revision(line, model)}:
            train = line.settings.train.model_copy(update={"model": model})
            settings = line.settings.model_copy(update={"train": train})
            return replace(line, resolved=replace(line.resolved, settings=settings))
    return line


def _revision(line: Line, model: str) -> str | None:
    """None where the model of some training is gone: those that are compared may have another."""
    try:
        return line.identity(model).revision
    except RpoError:
        return None


def noise_seed(line: Line, seed: int | None) -> int:
    """The seed that start noises come from; None: one of its own, made from the run's.

    Never the run's itself, from whose noise the pictures come that trainings have seen.
    """
    return row_seed(line.settings.run.seed, "eval") if seed is None else seed


def nested_line(line: Line, folder: Sequence[str], model: Contender, told: Mapping[str, Any]) -> Line:
    """The nested run of one model: the run's settings, whatever stands in the nested folder itself.

    Args:
        folder: of it, in the run directory.
        told: settings of all models that stand beside each other; prompts.file among them.
    """
    values = line.settings.model_dump(mode="json")
    options = {f"{section}.{key}": value for section in SHARED for key, value in values[section].items()}
    options |= {
        f"critique.{key}": values["critique"][key] for key in sorted(REACHED)
    }  # of rewards that ask
    options = {key: value for key, value in options.items() if key not in OWN}
    if "generate.generator" in model.options:
        options["generate.revision"] = None  # it is the run's generator's
    if line.settings.train.model not in (None, line.settings.generate.generator):
        options |= dict.fromkeys(HANGS[(GENERATOR,)])  # numbers of another model
    options |= {
        "prompts.column": "prompt",
        "generate.generator": tuned_model(line),
        "pairs.strategy": "seeds",  # pictures are all that is made, there are no edits
        **told,
        **model.options,
    }
    said = {key: DEFAULT if value is None else value for key, value in options.items()}
    resolved = resolve(said, preset=line.resolved.preset)
    store = open_store(line.store.path(*folder), create=True)
    return Line(store, resolved, Under(model.label, line.observer), nested=True)
