"""Where a size is measured: its models, the runs that rows start from, and the processes of both sides."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench.at_scale import processes
from tests.bench.speed import pictures
from tests.bench.speed.models import PARTS
from tests.bench.speed.sizes import EMBEDDED, ROOT, Size

PYTHON = sys.executable
RPO = (PYTHON, "-c", "from rpo_cli.cli.app import main; main()")  # as the script of that name does
LAUNCH = [PYTHON, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
LIMIT = 4 * 3600.0  # seconds of one process
Words = Sequence[object]


def fitting(rows: int, most: int) -> int:
    """The largest batch of at most `most` of which there are whole ones: rpo fills the last one up."""
    return max(size for size in range(1, most + 1) if rows % size == 0)


class Failed(Exception):
    """A command of either side did not end as it should."""


@dataclass(frozen=True)
class Side:
    """What one side of a measurement took and gave.

    Attributes:
        cpu, seconds: of the processors and of the wall.
        memory: bytes of its largest process at its largest.
        numbers: what came out, to be compared.
    """

    cpu: float
    seconds: float
    memory: int
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Place:
    """The folder of the runs of one size; models stand beside it, `device` is what both sides use."""

    folder: Path
    name: str
    size: Size
    device: str = "cpu"

    @cached_property
    def models(self) -> dict[str, Path]:
        """Part → folder; drawn where they are not the embedded ones."""
        root = EMBEDDED
        if self.size.shape is not None:
            root = self.folder.parent / "models"
            root.mkdir(parents=True, exist_ok=True)
            if not all((root / part).exists() for part in PARTS):
                self.run([PYTHON, "-m", "tests.bench.speed.models", self.name, root])
        return {part: root / part for part in PARTS}

    def settings(self, **more: object) -> list[str]:
        """--set of the models and of `section__key` = value."""
        rewards = [f"clip={self.models['reward']}"]
        rewards += [f"vqascore={self.models['critic']}"] if self.size.shape is None else []
        found: dict[str, object] = {
            "generate.generator": str(self.models["text-to-image"]),
            "critique.critic": str(self.models["critic"]),
            "edit.editor": str(self.models["editor"]),
            "score.rewards": rewards,
            "run.mix": True,
            "run.device": self.device,
        }
        found |= {name.replace("__", "."): value for name, value in more.items()}
        return [word for name, value in found.items() for word in ("--set", f"{name}={json.dumps(value)}")]

    def base(self, name: str, make: Callable[[Path], None]) -> Path:
        """A run that is made once and only copied afterwards."""
        run = self.folder / f"base-{name}"
        if not run.exists():
            draft = self.folder / f".{run.name}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.parent.mkdir(parents=True, exist_ok=True)
            make(draft)
            draft.rename(run)
        return run

    def fresh(self, base: Path | None = None) -> Path:
        """A folder for one turn: a copy of a base, or nothing."""
        turn = self.folder / "turn"
        shutil.rmtree(turn, ignore_errors=True)
        if base is None:
            turn.parent.mkdir(parents=True, exist_ok=True)
        else:
            shutil.copytree(base, turn)
        return turn

    def rpo(self, *words: object, codes: tuple[int, ...] = (0,)) -> Side:
        """What a command of rpo took."""
        return self.run([*RPO, *words], codes)[0]

    def said(self, *words: object) -> Any:
        """What a command of rpo says in JSON."""
        return json.loads(self.run([*RPO, "--json", *words])[1])

    def plain(self, script: str, *words: object) -> tuple[Side, dict[str, Any]]:
        """What a script of tests/bench/plain took, and its line."""
        device = () if script == "pairs" else ("--device", self.device)
        side, text = self.run([PYTHON, "-m", f"tests.bench.plain.{script}", *words, *device])
        line = json.loads(text.splitlines()[-1])
        return Side(side.cpu, side.seconds, side.memory, tuple(line["numbers"])), line

    def run(self, words: Words, codes: tuple[int, ...] = (0,)) -> tuple[Side, str]:
        """A process, and its stdout.

        Raises:
            Failed: it ended with another status than one of `codes`.
        """
        told = [str(word) for word in words]
        self.folder.mkdir(parents=True, exist_ok=True)
        out, took = self.folder / "stdout", self.folder / "took.json"
        launch = [*LAUNCH, str(took)] if LAUNCH else []
        used = processes.run([*launch, *told], [ROOT], LIMIT, out)
        if used.code not in codes:
            asked = " ".join(told[told[0] == PYTHON :])[:400]
            text = f"exit {used.code}: {asked}: {used.said}"
            raise Failed(text.replace(str(self.folder), "WORK").replace(str(ROOT), "ROOT"))
        alone = json.loads(took.read_text()) if launch else {}
        cpu, memory = alone.get("cpu", used.cpu), alone.get("peak", 0) * processes.UNIT or used.memory
        return Side(cpu, used.seconds, memory), out.read_text(encoding="utf-8")

    @cached_property
    def imported(self) -> Path:
        """A run of imported, labelled pairs; nobody has looked at them."""

        def make(run: Path) -> None:
            file = self.folder / "pairs.parquet"
            pictures.pairs(file, self.size.pairs, self.size.side)
            self.rpo("import", run, file, *self.settings())

        return self.base("imported", make)

    def built(self, name: str, count: int, share: str = "0", prepare: bool = True) -> Path:
        """A run whose dataset is `count` labelled pairs and, if one is held out, one more; encoded."""
        told = self.settings(
            score__rewards=[], pairs__strategy="imported", pairs__val_fraction=float(share)
        )

        def make(run: Path) -> None:
            file = self.folder / f"{name}.parquet"
            pictures.pairs(file, count, self.size.side)
            self.rpo("import", run, file, *told)
            self.rpo("build-pairs", run, *told)
            if prepare:
                self.rpo("train", run, "--prepare", *self.training())

        return self.base(name, make)

    def training(self, **more: object) -> list[str]:
        """The settings of a training, as the plain scripts have them."""
        s = self.size
        found: dict[str, object] = {
            "steps": s.train_steps,
            "global_batch": s.train_batch,
            "batch_size": s.train_batch,
            "warmup_steps": 0,
            "caption_dropout": 0.0,
            "flip": False,
            "beta": 500.0,
            "learning_rate": 1e-4,
            "rank": 16,
            "dtype": "float32",
            **more,
        }
        more_set = [word for k, v in found.items() for word in ("--set", f"train.{k}={json.dumps(v)}")]
        return [*self.settings(score__rewards=[]), *more_set]
