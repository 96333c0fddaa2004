"""A run whose pictures and scores come from stand-ins, so that every figure can be counted by hand."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpo_cli import open_line
from rpo_cli.line.work import base
from rpo_cli.line.work.generate import take_prompts
from rpo_cli.text import split_of
from tests.adapters import write_adapter

STEP = 51  # grey levels that each stand-in adapter adds: a fifth of the way to white


class Painter:
    """Flat grey pictures: 20 for an even seed, 71 for an odd one, brighter by the adapter's steps.

    And by one a unit of guidance; the backend's own, 7.5, adds none.
    """

    def __init__(self, lora, guidance):
        self.steps = int(Path(lora, "steps.txt").read_text()) if lora else 0
        self.steps += int(guidance) % 7

    def setup(self): ...

    def generate(self, prompts, seeds):
        greys = [20 + STEP * (seed % 2 + self.steps) for seed in seeds]
        return [Image.new("RGB", (16, 16), (grey,) * 3) for grey in greys]


class Brightness:
    """A reward: the mean grey level, in steps of 51."""

    def setup(self): ...

    def score(self, prompts, images):
        return [float((np.asarray(image).mean() - 20) / STEP) for image in images]


@dataclass
class Stand:
    """A run directory with prompts, and the models that stand in it."""

    run: Path
    model: Path
    built: list = field(default_factory=list)

    def line(self, **options):
        return open_line(self.run, options)

    def train(self, name, steps=1, on=None, finished=True):
        """A finished training whose adapter paints `steps` brighter."""
        folder = self.run / "train" / name
        write_adapter(folder / "adapter", name)
        (folder / "adapter" / "steps.txt").write_text(str(steps))
        (folder / "settings.json").write_text("{}")
        if finished:
            base = on or open_line(self.run).identity(str(self.model)).revision
            (folder / "done.json").write_text(json.dumps({"identity": {"model": base}}))
        return folder

    @property
    def trained_on(self):
        return [text for text in PROMPTS if split_of(text, 0.5) == "train"]

    @property
    def held_out(self):
        return [text for text in PROMPTS if split_of(text, 0.5) == "validation"]


PROMPTS = [f"prompt number {number}" for number in range(12)]


@pytest.fixture
def stand(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, prompts = tmp_path / "model", tmp_path / "prompts.txt"
    model.mkdir()
    (model / "model_index.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"")
    prompts.write_text("\n".join(PROMPTS) + "\n")
    found = Stand(tmp_path / "run", model)

    def backend(kind, name, ref, **options):
        found.built.append((kind, Path(options.get("lora") or "base").parent.name or "base"))
        return (
            Painter(options.get("lora"), options.get("guidance")) if kind == "generators" else Brightness()
        )

    monkeypatch.setattr(base, "build_backend", backend)
    settings = {
        "prompts.file": str(prompts),
        "generate.generator": str(model),
        "generate.images_per_prompt": 2,
        "score.rewards": (f"clip={model}",),
        "pairs.val_fraction": 0.5,
        "run.mix": True,
    }
    line = open_line(found.run, settings, preset="shapes")
    take_prompts(line)
    return found
