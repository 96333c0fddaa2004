"""One command line in this process, and a run whose pictures come from a stand-in for a diffusers model."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from rpo_cli.cli import app
from rpo_cli.line.work import base


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def rpo(capsys, monkeypatch):
    """`rpo(*arguments)` → exit code, stdout, stderr."""
    monkeypatch.delenv("RPO_DEBUG", raising=False)

    def call(*arguments):
        capsys.readouterr()
        code = app.call([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


class Painter:
    """A generator without a model: one colour per seed, or nothing at all (a safety checker's black)."""

    def __init__(self, censored=False):
        self.censored = censored

    def setup(self): ...

    def generate(self, prompts, seeds):
        if self.censored:
            return [None] * len(seeds)
        return [Image.new("RGB", (16, 16), (seed % 256, seed // 256 % 256, 128)) for seed in seeds]


@dataclass(frozen=True)
class Place:
    """Where a test's run, prompts and model folder stand, and the options that name them."""

    run: Path
    prompts: Path
    model: Path

    @property
    def options(self):
        return ["--prompts", self.prompts, "--generator", self.model, "--images-per-prompt", 2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base, "build_backend", lambda *parts, **options: Painter())
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\na blue circle\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model_index.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"")
    return Place(tmp_path / "run", prompts, model)
