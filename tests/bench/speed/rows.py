"""What is measured beside a plain script: a row is what rpo does, what the script does, and what came out.

rpo goes first, since its rows say which seeds the script must use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli.records import row_seed
from tests.bench.speed import pictures
from tests.bench.speed.place import PYTHON, Place, Side, fitting
from tests.bench.speed.sizes import EMBEDDED, ROOT

Both = tuple[Side, Side]
GUIDANCE = {"shapes": 1.15}  # of text-to-image; others as SD1.5's pipeline
TEMPLATES = ROOT / "prompts"
ALL = ("shapes", "quarter", "whole")


@dataclass(frozen=True)
class Bound:
    """What is to be reached; None: nothing is asked of it.

    Attributes:
        time, memory: rpo's over the script's.
        least: the same ratio of memory may not be below it, where both are told of one thing.
        cpu: seconds of rpo alone.
        over: seconds of rpo more than of the script.
        nothing: the number that came out is to be 0.
    """

    time: float | None = None
    memory: float | None = None
    least: float | None = None
    cpu: float | None = None
    over: float | None = None
    nothing: bool = False


PLAIN = Bound(time=1.05, memory=1.05)


@dataclass(frozen=True)
class Row:
    """A line of the table for each of its sizes."""

    name: str
    measure: Callable[[Place], Both]
    bounds: dict[str, Bound]


def with_numbers(side: Side, numbers: list[float]) -> Side:
    return Side(side.cpu, side.seconds, side.memory, tuple(numbers))


def generate(place: Place) -> Both:
    s, run, tasks = place.size, place.fresh(), place.folder / "tasks.parquet"
    file = place.folder / "prompts.txt"
    file.write_text("\n".join(pictures.prompts(s.prompts)) + "\n")
    guidance = GUIDANCE.get(place.name, 7.5)
    ours = place.rpo(
        *("generate", run, "--prompts", file, "--images-per-prompt", 2, "--steps", s.steps),
        *("--guidance", guidance, "--batch-size", s.batch, *place.settings()),
    )
    rows = pictures.table(run, "images", "prompt", "index", "seed", "image")
    rows.sort(key=lambda row: (row["prompt"], row["index"]))
    pictures.wrote(tasks, [{"prompt": row["prompt"], "seed": row["seed"]} for row in rows])
    plain, _ = place.plain(
        *("generate", "--model", place.models["text-to-image"], "--batch", s.batch, "--steps", s.steps),
        *("--guidance", guidance, "--tasks", tasks, "--out", place.folder / "plain"),
    )
    return with_numbers(ours, [pictures.brightness(row["image"]["bytes"]) for row in rows]), plain


def edit(place: Place) -> Both:
    s, tasks = place.size, place.folder / "tasks.parquet"
    source = place.imported

    def critiqued(run: Path) -> None:
        pictures.copied(source, run)
        critic = str(EMBEDDED / "critic")
        place.rpo("critique", run, *place.settings(critique__critic=critic, critique__max_tokens=160))

    run = place.fresh(place.base("critiqued", critiqued))
    asked = pictures.table(run, "critiques", "instructions")
    batch = fitting(sum(bool(row["instructions"]) for row in asked), s.batch)
    told = {"edit__floor_pictures": 0, "edit__guidance": [1.8], "edit__image_guidance": [1.5]}
    told |= {"edit__steps": s.steps, "edit__batch_size": batch}
    ours = place.rpo("edit", run, *place.settings(**told, critique__critic=str(EMBEDDED / "critic")))
    images = pictures.images(run)
    columns = ("edit_id", "image_sha256", "instruction", "seed", "image")
    rows = sorted(pictures.table(run, "edits", *columns), key=lambda row: row["edit_id"])
    pictures.wrote(
        tasks,
        [
            {
                "image": images[row["image_sha256"]],
                "instruction": row["instruction"],
                "seed": row_seed(row["seed"], 0),
            }
            for row in rows
        ],
    )
    plain, _ = place.plain(
        *("edit", "--model", place.models["editor"], "--batch", batch, "--steps", s.steps),
        *("--guidance", 1.8, "--image-guidance", 1.5, "--tasks", tasks, "--out", place.folder / "plain"),
    )
    return with_numbers(ours, [pictures.brightness(row["image"]["bytes"]) for row in rows]), plain


def filled(name: str, prompt: str) -> str:
    """A question of the package, as the critic reads it."""
    text = (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8").strip("\n")
    return text.replace("$prompt", prompt).replace("$max_instructions", "3").replace("$max_words", "16")


def critique(place: Place) -> Both:
    s, run, tasks = place.size, place.fresh(place.imported), place.folder / "tasks.parquet"
    told = {"critique__attempts": 1, "critique__batch_size": s.batch, "critique__max_tokens": s.tokens}
    words = place.settings(**told, critique__template="rpo")
    ours = place.rpo("critique", run, *words, codes=(0, 1))  # 1: a drawn critic says nothing of use
    asked = pictures.table(run, "images", "image_id", "prompt", "image")
    asked.sort(key=lambda row: row["image_id"])
    pictures.wrote(
        tasks,
        [
            {
                "image": row["image"]["bytes"],
                "first": filled("critique/rpo/critique", row["prompt"]),
                "second": filled("critique/rpo/instructions", row["prompt"]),
            }
            for row in asked
        ],
    )
    plain, _ = place.plain(
        *("critique", "--model", place.models["critic"], "--batch", s.batch),
        *("--tokens", s.tokens, "--tasks", tasks),
    )
    heard = {
        row["image_id"]: (row["text"], row["reply"])
        for row in pictures.table(run, "critiques", "image_id", "text", "reply")
    }
    for row in pictures.table(run, "rejects", "input_id", "detail"):
        heard[row["input_id"]] = (row["detail"].partition(": ")[2], "")
    return with_numbers(ours, [pictures.words(*heard[row["image_id"]]) for row in asked]), plain


def score(place: Place) -> Both:
    run, tasks = place.fresh(place.imported), place.folder / "tasks.parquet"
    batch = fitting(2 * place.size.pairs, 16)
    ours, _ = place.run([PYTHON, "-m", "tests.bench.at_scale.score", run, batch])
    rows = pictures.table(run, "images", "prompt_id", "prompt", "sha256", "image")
    found = {
        (row["reward"], row["prompt_id"], row["subject_sha256"]): row["score"]
        for row in pictures.table(run, "rewards", "reward", "prompt_id", "subject_sha256", "score")
    }
    rewards = sorted({reward for reward, _, _ in found})
    numbers = [found[name, row["prompt_id"], row["sha256"]] for name in rewards for row in rows]
    pictures.wrote(
        tasks,
        [
            {
                "image": row["image"]["bytes"],
                "prompt": row["prompt"],
                "question": filled("reward/vqascore", row["prompt"]),
            }
            for row in rows
        ],
    )
    critic = ["--critic", place.models["critic"]] if "vqascore" in rewards else []
    model = place.models["reward"]
    plain, _ = place.plain("score", "--model", model, *critic, "--batch", batch, "--tasks", tasks)
    return with_numbers(ours, numbers), plain


def build_pairs(place: Place) -> Both:
    """Of pictures of one's own with their scores on shapes; of imported, labelled pairs elsewhere."""
    return _seeds(place) if place.size.shape is None else _labelled(place)


def _seeds(place: Place) -> Both:
    s, tasks = place.size, place.folder / "tasks.parquet"
    file = place.folder / "prompts.txt"

    def make(run: Path) -> None:
        file.write_text("\n".join(pictures.prompts(s.prompts)) + "\n")
        more = ("--images-per-prompt", 2, "--steps", 8, "--batch-size", 16)
        place.rpo("generate", run, "--prompts", file, *more, *place.settings())
        place.run([PYTHON, "-m", "tests.bench.at_scale.score", run])

    run = place.fresh(place.base("scored", make))
    told = place.settings(pairs__strategy="seeds", pairs__val_fraction=0.0)
    ours = place.rpo("build-pairs", run, *told, codes=(0, 1))
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in pictures.table(run, "rewards", "reward", "prompt_id", "subject_sha256", "score"):
        scores.setdefault((row["prompt_id"], row["subject_sha256"]), {})[row["reward"]] = row["score"]
    images = pictures.table(run, "images", "prompt_id", "prompt", "sha256", "image")
    pictures.wrote(
        tasks,
        [
            {
                "prompt": row["prompt"],
                "image": row["image"]["bytes"],
                **scores[row["prompt_id"], row["sha256"]],
            }
            for row in images
        ],
    )
    return with_numbers(ours, _accepted(run, margins=True)), _paired(place, tasks)


def _labelled(place: Place) -> Both:
    tasks = place.folder / "tasks.parquet"
    run = place.fresh(place.imported)
    told = {"score__rewards": [], "pairs__strategy": "imported", "pairs__val_fraction": 0.0}
    ours = place.rpo("build-pairs", run, *place.settings(**told))
    pictures.wrote(tasks, pictures.labels(place.folder / "pairs.parquet"))
    plain = _paired(place, tasks)
    return with_numbers(ours, _accepted(run, margins=False)), with_numbers(plain, [plain.numbers[0]])


def _accepted(run: Path, *, margins: bool) -> list[float]:
    pairs = pictures.table(run, "pairs", "verdict", "margin")
    kept = sorted(abs(pair["margin"]) for pair in pairs if pair["verdict"] == "accepted")
    return [float(len(kept)), *(kept if margins else ())]


def _paired(place: Place, tasks: Path) -> Side:
    return place.plain("pairs", "--tasks", tasks, "--out", place.folder / "plain.parquet")[0]


def ratio_bounds(**more: Any) -> dict[str, Bound]:
    """The same at every size."""
    return dict.fromkeys(ALL, Bound(**{"time": 1.05, "memory": 1.05, **more}))


SHORT = {**ratio_bounds(), "shapes": Bound(time=1.05, memory=1.05, over=1.0)}
ROWS = (
    Row("generate", generate, ratio_bounds()),
    Row("edit", edit, SHORT),
    Row("critique", critique, SHORT),
    Row("score", score, SHORT),
    Row("build-pairs", build_pairs, ratio_bounds()),
)
