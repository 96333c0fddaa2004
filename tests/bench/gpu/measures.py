"""What is measured on a device, the most telling first; a measure gives one line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.gpu import children
from tests.bench.gpu.families import SMALL, TRUE, Family
from tests.bench.speed import pictures
from tests.bench.speed.rows import filled

PEAK = 790e12  # FLOP/s of a product of bf16 matrices, measured on an H200; what MFU is a share of
WARM = 2  # steps or parts that are not counted
Line = dict[str, Any]


@dataclass
class Bench:
    """Where measures are made.

    Attributes:
        left: seconds that are left of the budget.
        lines: by measure, of what was measured.
        flops: of a pair, by kind of training.
    """

    work: Path
    device: str
    small: bool
    left: Callable[[], float]
    lines: dict[str, Line] = field(default_factory=dict)
    flops: dict[tuple[object, ...], float] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        return "float32" if self.device == "cpu" else "bfloat16"

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        return 4 if self.small else 14

    def family(self, name: str) -> Family:
        return (SMALL if self.small else TRUE)[name]

    def run(self, *words: object, **more: Any) -> children.Run:
        self.work.mkdir(parents=True, exist_ok=True)
        asis = {"TORCHDYNAMO_DISABLE": "1"} if self.small else {}  # compiling small shapes takes minutes
        return children.run(words, self.work / "log", self.left(), more=asis, **more)

    def rpo(self, *words: object, **more: Any) -> children.Run:
        return self.run(*children.RPO, *words, **more)

    def plain(self, script: str, *words: object) -> tuple[children.Run, Line]:
        took = self.run(children.PYTHON, "-m", f"tests.bench.plain.{script}", *words, *self.where)
        return took, json.loads(took.said.splitlines()[-1])

    @property
    def where(self) -> tuple[str, ...]:
        return "--device", self.device, "--dtype", self.dtype

    def model(self, name: str) -> Path:
        """The folder of a model, drawn once."""
        folder = self.work / "models" / name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            small = ("small",) if self.small else ()
            module = "tests.bench.gpu.families"
            self.run(children.PYTHON, "-m", module, name, folder, self.device, *small)
        return folder

    def dataset(self, name: str) -> Path:
        """A run with pairs of the family's side, without a model's word about them."""
        side = self.family(name).side
        run, file = self.work / f"pairs-{side}", self.work / f"pairs-{side}.parquet"
        if not (run / "dataset").exists():
            pictures.pairs(file, 4 if self.small else 16, side)
            told = ["--set", "score.rewards=[]", "--set", "pairs.val_fraction=0"]
            self.rpo("import", run, file)
            self.rpo("build-pairs", run, *told, "--set", 'pairs.strategy="imported"')
        return run


@dataclass(frozen=True)
class Measure:
    """One line.

    Attributes:
        seconds: that it is thought to take; it is left out where less are left.
        goal: what is to be reached, by the name of a value.
    """

    name: str
    work: Callable[[Bench], Line]
    seconds: float
    goal: Mapping[str, str] = field(default_factory=dict)


def training(family: str, bench: Bench, *words: object, name: str, **told: Any) -> Line:
    """Pairs a second of `rpo train`, of the steps after the first ones, and its share of the peak."""
    run, model, (step, size) = bench.dataset(family), bench.model(family), bench.family(family).pairs
    told = {
        "steps": bench.steps,
        "global_batch": step,
        "batch_size": size,
        "caption_dropout": 0.0,
        "flip": False,
        "dtype": bench.dtype,
        "model": str(model),
        **told,
    }
    asked = [word for key, value in told.items() for word in ("--set", f"train.{key}={json.dumps(value)}")]
    asked += ["--device", bench.device, *map(str, words)]
    flops = planned(bench, (family, *words, told.get("reference_draws", 0)), run, asked)
    took = bench.rpo("train", run, "--name", name, *asked)
    lines = (run / "train" / name / "metrics.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if line["split"] == "train"]
    rate = median(line["pairs_per_second"] for line in steps[WARM:])
    return shares(rate, flops, took)


def planned(bench: Bench, kind: tuple[object, ...], run: Path, asked: list[str]) -> float:
    """FLOPs of a pair, of one kind of training, as `rpo train --dry-run` counts them; asked once."""
    if kind not in bench.flops:
        said = bench.rpo("--json", "train", run, "--dry-run", *asked).said
        bench.flops[kind] = json.loads(said)["flops_per_pair"]
    return bench.flops[kind]


def shares(rate: float, flops: float, took: children.Run) -> Line:
    return {
        "pairs_per_second": rate,
        "mfu": rate * flops / PEAK,
        "flops_per_pair": flops,
        "memory": took.memory,
        "seconds": took.seconds,
    }


def script(family: str, bench: Bench, name: str) -> Line:
    """The same of a plain script; FLOPs are those of rpo's plan."""
    run, model, (step, size) = bench.dataset(family), bench.model(family), bench.family(family).pairs
    took, line = bench.plain(
        *(name, "--model", model, "--dataset", run / "dataset", "--cache", bench.work / f"cache-{family}"),
        *("--out", bench.work / "plain", "--steps", bench.steps, "--global-batch", step, "--batch", size),
        *("--encode-batch", 4, "--learning-rate", 1e-5),
    )
    rate = step / median(line["seconds"][WARM:])
    known = bench.lines.get(f"{family} LoRA" if name == "lora" else f"{family} full", {})
    return shares(rate, known.get("flops_per_pair", 0), took)


def generate(bench: Bench) -> Line:
    """Pictures a second once the model works: parts of a batch each, the first ones left out."""
    model, run = bench.model("sd15"), bench.work / "drawn"
    prompts, size, steps = drawing(bench)
    file = bench.work / "prompts.txt"
    file.write_text("\n".join(pictures.prompts(prompts)) + "\n")
    took = bench.rpo(
        *("generate", run, "--prompts", file, "--images-per-prompt", 2, "--steps", steps),
        *("--guidance", 7.5, "--batch-size", size, "--device", bench.device),
        *("--set", f"generate.generator={json.dumps(str(model))}", "--set", f"run.rows_per_part={size}"),
        *("--set", f'generate.dtype="{bench.dtype}"'),
        watched=[run / "images"],
    )
    return rated("pictures_per_second", took, size, 2 * prompts)


def drawing(bench: Bench) -> tuple[int, int, int]:
    """Prompts of two pictures, pictures of a batch, denoising steps."""
    return (4, 2, 2) if bench.small else (48, 16, 25)


def rated(name: str, took: children.Run, size: int, rows: int) -> Line:
    """Rows a second between the first part and the last one that holds new rows."""
    times = took.parts[: rows // size]
    between = times[-1] - times[0] if len(times) > 1 else 0.0
    rate = size * (len(times) - 1) / between if between else rows / took.seconds
    return {name: rate, "memory": took.memory, "seconds": took.seconds}


def plain_generate(bench: Bench) -> Line:
    prompts, size, steps = drawing(bench)
    tasks = bench.work / "tasks.parquet"
    named = [{"prompt": prompt, "seed": seed} for prompt in pictures.prompts(prompts) for seed in (0, 1)]
    pictures.wrote(tasks, named)
    took, line = bench.plain(
        *("generate", "--model", bench.model("sd15"), "--tasks", tasks, "--out", bench.work / "plain"),
        *("--steps", steps, "--guidance", 7.5, "--batch", size),
    )
    rate = size / median(line["seconds"][1:])
    return {"pictures_per_second": rate, "memory": took.memory, "seconds": took.seconds}


def asking(bench: Bench) -> tuple[int, int]:
    """Pictures of a batch, tokens of a reply: weights that were drawn never come to an end."""
    return (2, 8) if bench.small else (8, 128)


def critique(bench: Bench) -> Line:
    model, source = bench.model("qwen3-vl"), bench.dataset("qwen3-vl")
    size, tokens = asking(bench)
    run = bench.work / "critiqued"
    if not run.exists():
        pictures.copied(source, run)
    took = bench.rpo(
        *("critique", run, "--device", bench.device, "--set", "run.mix=true"),
        *("--set", f"critique.critic={json.dumps(str(model))}", "--set", "critique.attempts=1"),
        *("--set", f"critique.max_tokens={tokens}", "--set", f"critique.batch_size={size}"),
        *("--set", f"run.rows_per_part={size}", "--set", f'critique.dtype="{bench.dtype}"'),
        *("--set", 'critique.template="rpo"'),
        watched=[run / "critiques", run / "rejects"],
        codes=(0, 1),
    )
    count = len(pictures.table(run, "images", "image_id"))
    return rated("critiques_per_second", took, size, count)


def plain_critique(bench: Bench) -> Line:
    run, tasks = bench.dataset("qwen3-vl"), bench.work / "tasks.parquet"
    size, tokens = asking(bench)
    first, second = "critique/rpo/critique", "critique/rpo/instructions"
    rows = [
        {
            "image": row["image"]["bytes"],
            "first": filled(first, row["prompt"]),
            "second": filled(second, row["prompt"]),
        }
        for row in pictures.table(run, "images", "prompt", "image")
    ]
    pictures.wrote(tasks, rows)
    model = bench.model("qwen3-vl")
    took, line = bench.plain(
        "critique", "--model", model, "--tasks", tasks, "--tokens", tokens, "--batch", size
    )
    rate = size / median(line["seconds"][1:])
    return {"critiques_per_second": rate, "memory": took.memory, "seconds": took.seconds}


def whole_line(bench: Bench, generator: Path | None) -> Line:
    """Prompts to adapter; pictures of drawn weights are judged by the embedded models, all pairs kept."""
    named = "shapes" if generator is None else generator.name
    run, prompts = bench.work / f"line-{named}", 2 if bench.small else 8
    words: list[object] = ["--preset", "shapes", "--limit", prompts, "--device", bench.device]
    kept = {"min_margin": 0, "min_agreement": 0, "min_change": 0, "max_change": 1, "val_fraction": 0}
    words += [word for key, value in kept.items() for word in ("--set", f"pairs.{key}={value}")]
    words += ["--set", f"train.steps={bench.steps}", "--set", "train.batch_size=4"]
    words += ["--set", "train.global_batch=4", "--set", "edit.floor_pictures=2"]
    if generator is not None:
        words += ["--set", f"generate.generator={json.dumps(str(generator))}", "--set", "run.mix=true"]
        words += ["--set", "generate.guidance=7.5", "--set", "generate.batch_size=8"]
        words += ["--set", f'generate.dtype="{bench.dtype}"', "--set", f'train.dtype="{bench.dtype}"']
    took = bench.rpo("run", run, *words)
    return {"prompts": prompts, "seconds": took.seconds, "memory": took.memory}


def overhead(bench: Bench) -> Line:
    """The line's stages on shapes beside the plain scripts, both as they come, one after the other."""
    from tests.bench.speed import rows, trainings
    from tests.bench.speed.place import Place
    from tests.bench.speed.sizes import REHEARSAL, SIZES

    size = REHEARSAL if bench.small else SIZES["shapes"]
    place = Place(bench.work / "stages", "shapes", size, bench.device)
    stages = (rows.generate, rows.critique, rows.edit, rows.score, trainings.lora)
    both = [stage(place) for stage in stages]
    ours, plain = (sum(pair[side].seconds for pair in both) for side in (0, 1))
    return {"overhead": ours / plain - 1, "seconds": ours, "plain_seconds": plain}


def end_to_end(bench: Bench) -> Line:
    return whole_line(bench, bench.model("sd15"))


def shapes_line(bench: Bench) -> Line:
    return whole_line(bench, None)


def _train(family: str, *words: str, name: str, **told: Any) -> Callable[[Bench], Line]:
    return lambda bench: training(family, bench, *words, name=name, **told)


def _plain(family: str, name: str) -> Callable[[Bench], Line]:
    return lambda bench: script(family, bench, name)


KEPT = {"reference_draws": 1}
MEASURES = (
    Measure("sd15 full", _train("sd15", "--full", name="full"), 60, {"pairs_per_second": ">= 49"}),
    Measure("sd15 full, plain", _plain("sd15", "full"), 45),
    Measure("sd15 full, Salesforce's step", _plain("sd15", "salesforce"), 50),
    Measure("sd15 LoRA", _train("sd15", name="lora"), 40),
    Measure("sd15 LoRA, cached reference", _train("sd15", name="lora-cached", **KEPT), 50),
    Measure("sd15 LoRA, plain", _plain("sd15", "lora"), 40),
    Measure("generate sd15", generate, 45),
    Measure("generate sd15, plain", plain_generate, 40),
    Measure("sdxl LoRA", _train("sdxl", name="sdxl"), 90, {"pairs_per_second": ">= 7.5"}),
    Measure("sdxl LoRA, plain", _plain("sdxl", "lora"), 60),
    Measure("sd15 full, compiled", _train("sd15", "--full", name="full-compiled", compile=True), 120),
    Measure("line of sd15, prompts to adapter", end_to_end, 60),
    Measure("line of shapes, prompts to adapter", shapes_line, 45),
    Measure("line's stages over their models", overhead, 150, {"overhead": "<= 0.05"}),
    Measure("critique qwen3-vl", critique, 60),
    Measure("critique qwen3-vl, plain", plain_critique, 45),
    Measure("sd3.5-medium LoRA", _train("sd3.5-medium", name="sd35"), 80),
    Measure("sd3.5-medium LoRA, plain", _plain("sd3.5-medium", "lora"), 60),
    Measure("sd15 LoRA, compiled", _train("sd15", name="lora-compiled", compile=True), 90),
    Measure(
        "sd15 LoRA, compiled, cached reference",
        _train("sd15", name="lora-both", compile=True, **KEPT),
        100,
    ),
)


@dataclass(frozen=True)
class Ratio:
    """Of one value of two measures."""

    name: str
    value: str
    over: tuple[str, str]
    goal: str


RATIOS = (
    Ratio(
        "cached reference over none",
        "pairs_per_second",
        ("sd15 LoRA, cached reference", "sd15 LoRA"),
        ">= 1.4",
    ),
    Ratio("memory over Salesforce's", "memory", ("sd15 full", "sd15 full, Salesforce's step"), "<= 0.6"),
    Ratio("full over plain", "pairs_per_second", ("sd15 full", "sd15 full, plain"), ">= 1"),
    Ratio("LoRA over plain", "pairs_per_second", ("sd15 LoRA", "sd15 LoRA, plain"), ">= 1"),
    Ratio("sdxl over plain", "pairs_per_second", ("sdxl LoRA", "sdxl LoRA, plain"), ">= 1"),
    Ratio(
        "generate over plain", "pictures_per_second", ("generate sd15", "generate sd15, plain"), ">= 1.5"
    ),
    Ratio(
        "critique over plain",
        "critiques_per_second",
        ("critique qwen3-vl", "critique qwen3-vl, plain"),
        ">= 1",
    ),
)
