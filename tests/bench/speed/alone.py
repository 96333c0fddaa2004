"""Rows of rpo alone: what it may take is said in seconds, or it has but to work."""

import json
from pathlib import Path

from tests.bench.speed import pictures
from tests.bench.speed.place import PYTHON, Place, Side
from tests.bench.speed.rows import Both, Bound, Row
from tests.bench.speed.trainings import dataset, trained

NOBODY = Side(0.0, 0.0, 0)
ONCE = Bound(cpu=3.5)
LABELS = ("--set", 'pairs.strategy="imported"')  # no other pair, so that labels alone decide


def photos(place: Place) -> Path:
    """A run of imported, labelled pictures, told nothing about rewards."""

    def make(run: Path) -> None:
        file = place.folder / "photos.parquet"
        pictures.pairs(file, place.size.photos // 2, 512 if place.size.photos > 100 else place.size.side)
        place.rpo("import", run, file, "--preset", "shapes")

    return place.base("photos", make)


def first_build(place: Place) -> Both:
    """The preset's rewards are nobody's wish where labels decide: no row of theirs is to be made."""
    run = place.fresh(photos(place))
    ours = place.rpo("build-pairs", run, *LABELS)
    rows = len(pictures.table(run, "rewards", "score_id"))
    return Side(ours.cpu, ours.seconds, ours.memory, (float(rows),)), NOBODY


def built(place: Place) -> Path:
    source = photos(place)

    def make(run: Path) -> None:
        pictures.copied(source, run)
        place.rpo("build-pairs", run, *LABELS)

    return place.base("photos-built", make)


def another_gate(place: Place) -> Both:
    run = place.fresh(built(place))
    return place.rpo("build-pairs", run, "--set", "pairs.min_hash_distance=1"), NOBODY


def another_split(place: Place) -> Both:
    run = place.fresh(built(place))
    return place.rpo("build-pairs", run, "--set", "pairs.val_fraction=0.2"), NOBODY


def rpo_help(place: Place) -> Both:
    return place.rpo("--help"), NOBODY


def without_t5(place: Place) -> Both:
    """Stable Diffusion 3 whose index says that its third text encoder is not there."""
    model = place.folder / "sd3"
    if not model.exists():
        place.run([PYTHON, "-m", "tests.bench.speed.sd3", model])
    file = place.folder / "one.txt"
    file.write_text("a red circle\n")
    told = ["--images-per-prompt", 1, "--steps", 2, "--set", f"generate.generator={json.dumps(str(model))}"]
    return place.rpo("generate", place.fresh(), "--prompts", file, *told), NOBODY


def default_batch(place: Place) -> Both:
    """One step of sixteen pairs at the default batch size, whatever memory there is."""
    told = {"steps": 1, "global_batch": 16, "batch_size": 16}
    return trained(place, dataset(place), "measured", **told), NOBODY


ROWS = (
    Row("build-pairs of imported labels, first", first_build, {"whole": Bound(cpu=18.0, nothing=True)}),
    Row("build-pairs of imported labels, another gate", another_gate, {"whole": ONCE}),
    Row("build-pairs of imported labels, another split", another_split, {"whole": ONCE}),
    Row("LoRA at the default batch size", default_batch, {"whole": Bound()}),
    Row("rpo --help", rpo_help, {"shapes": Bound(cpu=0.25)}),
    Row("generate, SD3 without T5", without_t5, {"shapes": Bound()}),
)
