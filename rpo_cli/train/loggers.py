"""Where a training's numbers go beside metrics.jsonl: TensorBoard, trackio, Weights & Biases.

A library is imported when it is asked for and at no other time. Keys and accounts are the library's own
business (its environment, its login): none passes through here, and a logger is told settings and numbers
only, no path, no caption and no code.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rpo_cli.config import LoggerName, TrainSettings

PROJECT = "rpo"


class Logger(Protocol):
    """One place that numbers are written to."""

    def append(self, split: str, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """OUT/tensorboard/: event files, tags "<split>/<number>"."""

    def __init__(self, settings: TrainSettings, out: Path, key: str, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed training wrote of steps from `first` on is not shown again
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=first)

    def append(self, split: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Tracker:
    """trackio and wandb, which share `init`, `log` and `finish`."""

    def __init__(self, module: Any, **given: Any) -> None:
        self._module = module
        module.init(project=PROJECT, resume="allow", **given)

    def append(self, split: str, step: int, numbers: Mapping[str, float]) -> None:
        named = {f"{split}/{name}": value for name, value in numbers.items()}
        self._module.log(named, step=step)

    def close(self) -> None:
        self._module.finish()


def trackio(settings: TrainSettings, out: Path, key: str, first: int) -> Logger:
    """In trackio's own local store, `trackio show` opens it; one run a training."""
    name = f"{settings.name}-{key[:8]}"
    return Tracker(importlib.import_module("trackio"), name=name, config=_config(settings))


def wandb(settings: TrainSettings, out: Path, key: str, first: int) -> Logger:
    """OUT/wandb/; a training that goes on continues its run. WANDB_MODE=offline sends nothing."""
    module = importlib.import_module("wandb")
    quiet = module.Settings(
        console="off", save_code=False, disable_git=True, x_disable_meta=True, silent=True
    )
    return Tracker(
        module, name=settings.name, id=key[:16], dir=str(out), config=_config(settings), settings=quiet
    )


LOGGERS: dict[LoggerName, Callable[..., Logger]] = {
    "tensorboard": TensorBoard,
    "trackio": trackio,
    "wandb": wandb,
}


def open_loggers(settings: TrainSettings, out: Path, key: str, first: int) -> list[Logger]:
    """The loggers that the settings name.

    Args:
        key: of the training: a run that goes on has the same.
        first: the next optimiser step; 1 at the start.
    """
    return [LOGGERS[name](settings, out, key, first) for name in settings.loggers]


def numeric(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: of a batch that was left out nothing."""
    return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float)}


def _config(settings: TrainSettings) -> dict[str, Any]:
    """The settings without what may hold a path of this machine."""
    return settings.model_dump(mode="json", exclude={"model", "embedder"}, exclude_none=True)
