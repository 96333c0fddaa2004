"""What training says about itself: numbers per step, warnings when β is off, loggers beside."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from rpo_cli.config import LoggerName, TrainSettings
from rpo_cli.train.objectives.components import clipped_shares
from rpo_cli.train.objectives.objective import (
    SALESFORCE,
    Errors,
    Objective,
    implicit_accuracy,
    implicit_margin,
    ranks,
)
from rpo_cli.train.storage import storage_errors, write_atomically

Numbers = dict[str, float]
CLOCK = (
    "pairs_per_second",
    "seconds",
    "useful_mfu",
    "hardware_mfu",
)  # what differs from one run of a training to the next
SPREAD_STEPS = 10  # the logit's spread is judged within this many steps
# standard deviations of the logit: float32 rounding alone makes some 3e-4 at β 5000; σ(10) = 0.99995
TOO_SMALL, SATURATED = 2e-3, 10.0
# of DPO's kind: at β 5000 one side's error has moved by 0.4, where pure noise has 1
FAR_OUT = 1000.0
RUNAWAY = 2.0  # losers' error over the reference's


def summarise(errors: Errors, objective: Objective, beta: float) -> Numbers:
    """Means over the items: loss, errors of best and worst picture, accuracy, logits, shares clipped.

    An advantage is how much better than the reference a side is denoised: both fall when a policy forgets.
    The logit's standard deviation is the population's (0 for one pair).
    """
    found = {"loss": objective.losses(errors, beta).mean(), **_by_side("{}_error", errors.policy, errors)}
    if errors.reference is not None:
        found |= {
            **_by_side("reference_{}_error", errors.reference, errors),
            **_by_side("{}_advantage", errors.reference - errors.policy, errors),
            "implicit_accuracy": implicit_accuracy(implicit_margin(errors)),
            **_accuracy_by_noise(errors),
        }
    found |= _kl(errors)
    if objective.compares:
        logits = objective.logits(errors, beta)
        found |= {"logit_mean": logits.mean(), "logit_std": logits.std(correction=0)}
    if objective.clip:
        found |= clipped_shares(errors, objective)
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))


def _by_side(name: str, values: Tensor, errors: Errors) -> dict[str, Tensor]:
    """Means over the best and over the worst pictures; over good and bad ones, as far as any were drawn."""
    table, good = ranks(values, errors.width), errors.known.good
    sides = (table[0], table[-1]) if good is None else (table[0][good > 0], table[0][good < 0])
    return {
        name.format(side): part.mean()
        for side, part in zip(("winner", "loser"), sides, strict=True)
        if len(part)
    }


def _kl(errors: Errors) -> dict[str, Tensor]:
    """ "kl": KL(policy ‖ reference) of one denoising step, in nats per element of the latents.

    Estimator: the exact divergence of the two Gaussian steps that the predictions make of one x_t (equal
    variances, so it is the same in both directions), averaged over the pictures and timesteps as drawn. x_t
    are noised pictures of the dataset, not samples of the policy, and the first and last timestep have no
    such step. Times C·H·W·T it is an estimate for a whole trajectory where timesteps are drawn uniformly.
    """
    slope = errors.known.divergence
    if errors.distance is None or slope is None:
        return {}
    nats = (ranks(errors.distance, errors.width) * slope)[:, slope.isfinite()]
    return {"kl": nats.mean()} if nats.numel() else {}


def _accuracy_by_noise(errors: Errors) -> dict[str, Tensor]:
    """Implicit accuracy on each third of the timesteps that occurs."""
    if errors.known.noise is None:
        return {}
    margin, third = implicit_margin(errors), (3 * errors.known.noise).long()
    bands = {name: margin[third == band] for band, name in enumerate(("low", "middle", "high"))}
    return {
        f"implicit_accuracy_{name}_noise": implicit_accuracy(part)
        for name, part in bands.items()
        if len(part)
    }


def spread_warning(step: int, spread: float) -> str | None:
    """Advice at optimiser step `step` (from 1) when the logits are far from where a pair can teach."""
    if step <= SPREAD_STEPS and spread > SATURATED:
        return (
            f"the logits spread by {spread:.3g} at step {step}: most pairs are saturated and "
            "teach nothing; lower beta or the learning rate"
        )
    if step == SPREAD_STEPS and spread < TOO_SMALL:
        return (
            f"the logits spread by only {spread:.3g} after {step} steps: nearly nothing is learned; "
            "raise beta or the learning rate, or shorten the warm-up"
        )
    return None


def far_out(errors: Errors, objective: Objective, beta: float) -> Tensor:
    """Items whose logit is past anything that learns, (B,) bool; only judged in Salesforce's unit of β."""
    items = errors.policy.numel() // errors.width
    if not (objective.compares and objective.beta_unit == SALESFORCE):
        return torch.zeros(items, dtype=torch.bool)
    plain = replace(objective, divergence="reverse-kl")  # f-DPO's others may grow like an exponential
    return (plain.logits(errors, beta).abs() > FAR_OUT).view(-1, items).any(dim=0)


def runaway_warning(step: int, numbers: Mapping[str, Any]) -> str | None:
    """Advice when the policy gets worse at losers, as against the reference at the same draws."""
    loser, reference = numbers.get("loser_error"), numbers.get("reference_loser_error")
    if loser is None or reference is None or loser <= RUNAWAY * reference:
        return None
    return (
        f"the losers' error is {loser / reference:.3g} times the reference's at step {step}: the policy "
        "forgets rather than prefers; lower beta or the learning rate, or add train.sft_weight"
    )


class MetricsFile:
    """metrics.jsonl: one line per optimiser step (split "train") and per validation ("validation").

    The line of a batch that was left out holds "skipped_pairs", places in the training split from 0.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, split: str, step: int, numbers: Mapping[str, Any]) -> None:
        line = json.dumps({"split": split, "step": step, **numbers}, separators=(",", ":"))
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines; the last one may have been cut off by a kill."""
        if not self._path.exists():
            return []
        rows = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def rewind(self, step: int | None) -> None:
        """Forget what came after the checkpoint at `step`, everything when there is none."""
        kept = [row for row in self.rows() if step is not None and row["step"] <= step]
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in kept)
        write_atomically(self._path, text.encode())

    def first_and_last(self, split: str) -> tuple[Numbers, Numbers]:
        """Numbers of the first and the last line of a split, without the clock; {} when there are none."""
        found = [row for row in self.rows() if row["split"] == split and "skipped_pairs" not in row]
        if not found:
            return {}, {}
        return _clockless(found[0]), _clockless(found[-1])


class Journal:
    """Where a training writes its numbers; a process that does not lead has no file and writes nothing."""

    def __init__(self, file: MetricsFile | None, loggers: "Sequence[Logger]" = ()) -> None:
        self._file = file
        self._loggers = loggers

    def append(self, split: str, step: int, numbers: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.append(split, step, numbers)
        for logger in self._loggers:
            logger.append(split, step, numeric(numbers))

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()

    def rewind(self, step: int | None) -> None:
        """Forget what came after the checkpoint at `step`, everything when there is none."""
        if self._file is not None:
            self._file.rewind(step)

    def ends(self) -> list[Numbers]:
        """First and last of training, first and last of validation."""
        if self._file is None:
            return [{}, {}, {}, {}]
        return [*self._file.first_and_last("train"), *self._file.first_and_last("validation")]


def _clockless(row: dict[str, Any]) -> Numbers:
    return {name: value for name, value in row.items() if name not in ("split", *CLOCK)}


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
