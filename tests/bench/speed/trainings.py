"""Rows of trainings: both sides start from encoded pairs, and see the same noise and first weights."""

from pathlib import Path
from typing import Any

from tests.bench.speed import pictures
from tests.bench.speed.place import PYTHON, Place, Side
from tests.bench.speed.rows import Both, Bound, Row, ratio_bounds, with_numbers

LARGE = ("quarter", "whole")


def dataset(place: Place) -> Path:
    """A run with encoded pairs, none of them held out."""
    return place.built("trained", place.size.trained)


def draws(place: Place, steps: int, uses: int = 0) -> Path:
    """What chance decides of a training, as a file."""
    s, file = place.size, place.folder / f"draws-{place.size.trained}-{steps}-{uses}.safetensors"
    if not file.exists():
        words = ["--pairs", s.trained, "--steps", steps, "--batch", s.train_batch, "--uses", uses]
        more = ["--model", place.models["text-to-image"], "--out", file]
        place.run([PYTHON, "-m", "tests.bench.speed.draws", *words, *more])
    return file


def script(place: Place, name: str, data: Path, drawn: Path, steps: int) -> Side:
    """What a plain training took; its latents are kept from run to run, as ours are."""
    s, cache = place.size, place.folder / f"cache-{data.name}.safetensors"
    encoded = ("--dataset", data / "dataset", "--cache", cache, "--model", place.models["text-to-image"])
    if not cache.exists():
        place.plain("encode", *encoded, "--batch", s.encode_batch)
    return place.plain(
        *(name, *encoded, "--out", place.folder / "plain", "--steps", steps),
        *("--batch", s.train_batch, "--global-batch", s.train_batch, "--draws", drawn),
    )[0]


def trained(place: Place, base: Path, name: str, *more: object, **told: Any) -> Side:
    """What `rpo train` took on a copy of a run."""
    run = place.fresh(base)
    ours = place.rpo("train", run, "--name", name, *place.training(**told), *more)
    return with_numbers(ours, pictures.metrics(run / "train" / name))


def lora(place: Place) -> Both:
    base, steps = dataset(place), place.size.train_steps
    ours = trained(place, base, "measured")
    return ours, script(place, "lora", base, draws(place, steps), steps)


def full(place: Place) -> Both:
    base, steps = dataset(place), min(place.size.train_steps, 4)
    ours = trained(place, base, "measured", "--full", steps=steps)
    return ours, script(place, "full", base, draws(place, steps), steps)


def held_out(place: Place) -> Both:
    """With one more pair, which is held out; the script validates nothing."""
    count, steps = place.size.trained, place.size.train_steps
    share = pictures.held_out(pictures.prompts(count + 1))
    base = place.built("held-out", count + 1, share)
    assert (pictures.dataset(base, "train"), pictures.dataset(base, "validation")) == (count, 1)
    ours = trained(place, base, "measured")
    return ours, script(place, "lora", base, draws(place, steps), steps)


def again(place: Place) -> Both:
    """A second training of a run that kept the reference's errors, at another learning rate."""
    first, steps = dataset(place), place.size.train_steps

    def make(run: Path) -> None:
        pictures.copied(first, run)
        place.rpo("train", run, "--name", "first", *place.training(reference_draws=1, learning_rate=5e-5))

    ours = trained(place, place.base("again", make), "measured", reference_draws=1)
    return ours, script(place, "lora", first, draws(place, steps, 1), steps)


def encode(place: Place) -> Both:
    base = place.built("encoded", place.size.trained, prepare=False)
    run = place.fresh(base)
    ours = place.rpo("train", run, "--prepare", *place.training())
    cache = place.folder / "plain.safetensors"
    cache.unlink(missing_ok=True)
    plain, _ = place.plain(
        *("encode", "--dataset", base / "dataset", "--cache", cache, "--batch", place.size.encode_batch),
        *("--model", place.models["text-to-image"]),
    )
    return with_numbers(ours, pictures.latents(run)), plain


def checkpoint(place: Place) -> Both:
    """One checkpoint: what a training with three takes more than one with the last alone, by two."""
    base, steps = dataset(place), 3
    once = trained(place, base, "measured", "--full", steps=steps, save_every=steps)
    each = trained(place, base, "measured", "--full", steps=steps, save_every=1)
    plain, line = place.plain(
        *("checkpoint", "--model", place.models["text-to-image"], "--times", 2),
        *("--out", place.folder / "checkpoint.safetensors"),
    )
    (place.folder / "checkpoint.safetensors").unlink()
    more = max(0.0, each.cpu - once.cpu) / (steps - 1)
    wall = max(0.0, each.seconds - once.seconds) / (steps - 1)
    return Side(more, wall, 0), Side(line["cpu"], plain.seconds, 0)


def plan(place: Place) -> Both:
    """The memory that `rpo train --dry-run` tells, beside what that training takes; of times nothing."""
    base, pairs = dataset(place), 2 if place.name == "quarter" else 1
    told = {"steps": 1, "global_batch": pairs, "batch_size": pairs}
    found = place.said("train", place.fresh(base), "--dry-run", *place.training(**told))
    used = trained(place, base, "measured", **told)
    return Side(0.0, 0.0, found["memory_total"]), Side(0.0, 0.0, used.memory)


CHECKPOINT = dict.fromkeys(LARGE, Bound(time=1.5)) | {"shapes": Bound()}
ROWS = (
    Row("LoRA", lora, ratio_bounds()),
    Row("LoRA, one pair held out", held_out, ratio_bounds(time=1.1)),
    Row("LoRA, second training", again, ratio_bounds(time=0.75)),
    Row("full", full, ratio_bounds()),
    Row("checkpoint", checkpoint, CHECKPOINT),
    Row("encode", encode, ratio_bounds()),
    Row("memory of the plan", plan, dict.fromkeys(LARGE, Bound(memory=1.15, least=0.85))),
)
