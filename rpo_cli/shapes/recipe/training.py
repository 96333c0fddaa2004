"""The loop that all shapes models are trained with: seed, cosine rate, EMA, checkpoints that go on
where they stopped.

No model and no data here. A trainer hands over its modules and a function step -> loss; batches
must follow from (seed, step) alone, so that a resumed run sees what an undisturbed one would have
seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SHARD_BYTES = 15 * 2**20
SAVE_SECONDS = 120.0


@dataclass
class Settings:
    """How long, how fast, where. `minutes` (of work, over all resumptions) wins over `steps` when
    it is not 0.
    """

    folder: Path
    steps: int = 10_000
    minutes: float = 0.0
    batch: int = 32
    lr: float = 8e-4
    warmup: int = 200
    decay: float = 0.998
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


@dataclass
class Progress:
    """What a checkpoint knows besides tensors."""

    step: int = 0
    seconds: float = 0.0
    samples: int = 0


def add_options(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """One option per field of Settings, with the trainer's own defaults."""
    for name, value in asdict(defaults).items():
        parser.add_argument(
            f"--{name}",
            type=type(defaults.folder) if name == "folder" else type(value),
            default=value,
        )


def settings_of(options: argparse.Namespace) -> Settings:
    """The Settings among parsed options."""
    return Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})


def fraction_done(settings: Settings, progress: Progress) -> float:
    """0 at the start, 1 when the run is over."""
    if settings.minutes > 0:
        return progress.seconds / (60 * settings.minutes)
    return progress.step / settings.steps


def rate(settings: Settings, progress: Progress) -> float:
    """Learning rate: linear warm-up, then half a cosine down to 1 % of the peak."""
    warm = min(1.0, (progress.step + 1) / settings.warmup)
    done = min(1.0, fraction_done(settings, progress))
    return settings.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def step_seed(settings: Settings, step: int) -> int:
    """The seed of one step's batch and noise."""
    return settings.seed * 1_000_003 + step


def _log(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stdout.flush()


class Trainer:
    """Modules, their EMA and AdamW state, on disk in shards of at most 15 MiB."""

    def __init__(self, settings: Settings, modules: dict[str, nn.Module]) -> None:
        """Loads the last checkpoint in `settings.folder` if there is one."""
        self.settings, self.modules, self.progress = settings, modules, Progress()
        self.parameters = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.named_parameters()
            if value.requires_grad
        }
        self.average = {key: value.detach().clone() for key, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.01
        )
        if (settings.folder / "state").is_dir():
            self._load(settings.folder / "state")

    def run(self, loss_of: Callable[[int], Tensor], each: Callable[[int], None] | None = None) -> None:
        """Train to the end of the settings; `each(step)` is called after every checkpoint."""
        saved, seen, total = time.monotonic(), self.progress.step, torch.zeros(())
        while fraction_done(self.settings, self.progress) < 1.0:
            began = time.monotonic()
            total += self._step(loss_of)
            self.progress.seconds += time.monotonic() - began
            if self.progress.step % 100 == 0:
                mean = float(total) / max(1, self.progress.step - seen)
                _log(f"step {self.progress.step} loss {mean:.5f} {self._pace()}")
                seen, total = self.progress.step, torch.zeros(())
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                if each:
                    each(self.progress.step)
                saved = time.monotonic()
        self.save()

    def _pace(self) -> str:
        done = fraction_done(self.settings, self.progress)
        speed = self.progress.step / self.progress.seconds
        return f"done {done:.1%} lr {rate(self.settings, self.progress):.2e} {speed:.2f} steps/s"

    def _step(self, loss_of: Callable[[int], Tensor]) -> Tensor:
        torch.manual_seed(step_seed(self.settings, self.progress.step))
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.settings, self.progress)
        loss = loss_of(self.progress.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
        self.optimizer.step()
        self.progress.step += 1
        self.progress.samples += self.settings.batch
        decay = min(self.settings.decay, self.progress.step / (self.progress.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)
        return loss.detach().cpu()

    def use_average(self) -> None:
        """Put the averaged weights into the modules, for export or measuring."""
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.average[key])

    def metadata(self) -> dict[str, str]:
        """What the weights carry: settings, seed, samples seen, commit, versions."""
        said = {name: str(value) for name, value in asdict(self.settings).items() if name != "folder"}
        minutes = f"{self.progress.seconds / 60:.1f}"
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        versions = {"torch": torch.__version__, "commit": commit.stdout.strip()}
        steps, samples = str(self.progress.step), str(self.progress.samples)
        done = {"steps_done": steps, "samples": samples, "minutes_done": minutes}
        return said | done | versions

    def save(self) -> None:
        """Write the whole state beside the old one, then swap: a kill leaves one of them whole."""
        fresh, final = self.settings.folder / "state.new", self.settings.folder / "state"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for number, shard in enumerate(_shards(self._tensors())):
            save_file(shard, fresh / f"{number:03d}.safetensors")
        (fresh / "progress.json").write_text(json.dumps(asdict(self.progress)))
        (fresh / "metadata.json").write_text(json.dumps(self.metadata()))
        old = self.settings.folder / "state.old"
        if final.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(final, old)
        os.rename(fresh, final)
        shutil.rmtree(old, ignore_errors=True)

    def _tensors(self) -> dict[str, Tensor]:
        found = {f"now.{key}": value.detach() for key, value in self.parameters.items()}
        found |= {f"average.{key}": value for key, value in self.average.items()}
        for key, value in self.parameters.items():
            moments = self.optimizer.state.get(value, {})
            found |= {
                f"{name}.{key}": moments[name] for name in ("exp_avg", "exp_avg_sq") if name in moments
            }
        return {key: value.contiguous() for key, value in found.items()}

    def _load(self, folder: Path) -> None:
        self.progress = Progress(**json.loads((folder / "progress.json").read_text()))
        tensors: dict[str, Tensor] = {}
        for shard in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(shard, device=self.settings.device)
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(tensors[f"now.{key}"])
                self.average[key].copy_(tensors[f"average.{key}"])
                moments = {name: tensors[f"{name}.{key}"] for name in ("exp_avg", "exp_avg_sq")}
                step = torch.tensor(float(self.progress.step))
                self.optimizer.state[value] = {"step": step, **moments}
        _log(f"goes on at step {self.progress.step} ({self.progress.seconds / 60:.1f} min)")


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        size += value.nbytes
        if size > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = value.nbytes
        shards[-1][key] = value
    return shards


def load_average(folder: Path, modules: dict[str, nn.Module]) -> dict[str, str]:
    """Put the averaged weights of a training folder into fresh modules; the metadata that belongs
    to them.
    """
    state = folder / "state"
    tensors: dict[str, Tensor] = {}
    for shard in sorted(state.glob("*.safetensors")) if modules else ():
        tensors |= load_file(shard)
    with torch.no_grad():
        for name, module in modules.items():
            for key, value in module.named_parameters():
                value.copy_(tensors[f"average.{name}.{key}"])
    metadata: dict[str, str] = json.loads((state / "metadata.json").read_text())
    return metadata


def begin_with(start: Path, modules: dict[str, nn.Module], folder: Path) -> None:
    """Begin a training in `folder` with the averaged weights of `start`, and note where they are from."""
    before = load_average(start, modules)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "start.json").write_text(json.dumps(before))


def metadata_before(folder: Path) -> dict[str, str]:
    """Metadata of the training that this one began with, as `before_...`; empty when it began afresh."""
    file = folder / "start.json"
    before: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    return {f"before_{key}": value for key, value in before.items()}
