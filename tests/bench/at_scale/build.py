"""A run of so many pictures, its tables written in bulk: what the line would have made of instant backends.

A few rows are made by the real line first; those in bulk are copies of them with keys, seeds and pictures
of their own, so that nothing of settings, groups or environment is told twice. The first DONE of the
pictures have a critique, an edit and scores; the rest is what the stages are to make.

`python -m tests.bench.at_scale.build FOLDER ROWS DONE PER_PART`, with the plugin on PYTHONPATH.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image as Pillow

from rpo_cli import open_line, run
from rpo_cli.line.work.generate import generate_work, take_prompts
from rpo_cli.pictures import encode_png, sha256
from rpo_cli.protocols import Task
from rpo_cli.records import Critique, Edit, Image, ImageData, RewardScore, Row
from rpo_cli.stages import critique, edit, generate, score
from rpo_cli.store import Store
from tests.bench.at_scale import instant
from tests.bench.at_scale.plugin import NAME

PER_PROMPT = 2
TABLES = ("images", "critiques", "edits", "rewards")
Like = TypeVar("Like", bound=Row)


@dataclass(frozen=True)
class Samples:
    """A row of each table as the real line makes it, and the folder of its part."""

    rows: Mapping[str, Row]
    groups: Mapping[str, str]

    @classmethod
    def of(cls, store: Store) -> "Samples":
        rows, groups = {}, {}
        for table in TABLES:
            for part in store.parts(table):
                found = [row for row in store.part_rows(table, part) if getattr(row, "instruction", "x")]
                if found:  # not an edit of the floor
                    rows[table], groups[table] = found[0], part.group
        return cls(rows, groups)

    def like(self, row: type[Like], key: str, **values: Any) -> Like:
        """The sample of this table with another key and these values."""
        sample = self.rows[row.table]
        assert isinstance(sample, row)
        return sample.model_copy(update={next(iter(row.model_fields)): key, **values})


def build(folder: Path, rows: int, done: int, per_part: int) -> None:
    """FOLDER/run with `rows` pictures, two of each prompt, `done` of them with all that follows."""
    options = settings(folder)
    sample, whole = (
        open_line(folder / name, {**options, "prompts.file": prompts(folder / f"{name}.txt", many)})
        for name, many in (("sample", 4), ("run", rows // PER_PROMPT))
    )
    run(sample, until="build-pairs")
    take_prompts(whole)
    whole.record()
    samples = Samples.of(sample.store)
    write(whole.store, samples, generate_work(whole).tasks(), done, per_part)


def settings(folder: Path) -> dict[str, Any]:
    """Settings of a run on the instant backends; an empty model stands in `folder`."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"")
    named = {"generate": "generator", "critique": "critic", "edit": "editor"}
    found: dict[str, Any] = {f"{section}.backend": NAME for section in named}
    found |= {f"{section}.{role}": str(model) for section, role in named.items()}
    return found | {
        "generate.images_per_prompt": PER_PROMPT,
        "score.rewards": [f"{NAME}={model}"],
    }


def prompts(file: Path, many: int) -> str:
    """A file of so many prompts."""
    file.write_text("\n".join(f"a picture of thing number {number}" for number in range(many)))
    return str(file)


def write(store: Store, samples: Samples, tasks: Iterator[Task], done: int, per_part: int) -> None:
    """The tables, a part of each at a time."""
    for start in count(0, per_part):
        some = list(islice(tasks, per_part))
        if not some:
            return
        made = [
            row for number, task in enumerate(some, start) for row in rows_of(samples, task, number < done)
        ]
        for table in TABLES:
            found = [row for row in made if row.table == table]
            store.commit(table, found, group=samples.groups[table])


def rows_of(samples: Samples, task: Task, whole: bool) -> Iterator[Row]:
    """A picture, and when it is `whole` what follows from it: critique, edit and the scores of both."""
    want: generate.ImageTask = task.payload
    names = {"prompt_id": want.prompt_id, "prompt": want.prompt}
    pixels = instant.drawn(want.seed)
    image = samples.like(Image, task.key, index=want.index, seed=want.seed, **names, **_encoded(pixels))
    yield image
    if not whole:
        return
    said = _critique(samples, image, pixels)
    changed = instant.mended(pixels)
    edited = _edit(samples, image, said, changed)
    yield from (said, edited, _score(samples, image, pixels), _score(samples, edited, changed))


def _encoded(pixels: instant.Pixels) -> dict[str, Any]:
    data = encode_png(Pillow.fromarray(pixels))
    return {"sha256": sha256(data), "image": ImageData(bytes=data)}


def _names(row: Image | Edit) -> dict[str, str]:
    return {"prompt_id": row.prompt_id, "prompt": row.prompt}


def _critique(samples: Samples, image: Image, pixels: instant.Pixels) -> Critique:
    sample = samples.rows["critiques"]
    assert isinstance(sample, Critique)
    seen = (image.image_id, image.sha256, image.prompt_id, image.prompt, None)
    (task,) = critique.wanted(lambda: [seen], seed=0, settings=sample.settings)
    asked = instant.asked(pixels)
    return samples.like(
        Critique,
        task.key,
        image_id=image.image_id,
        image_sha256=image.sha256,
        text=instant.said(pixels),
        flaws=tuple(type(sample.flaws[0])(**flaw) for flaw in asked["flaws"]),
        instructions=tuple(asked["instructions"]),
        seed=task.payload.seed,
        **_names(image),
    )


def _edit(samples: Samples, image: Image, said: Critique, pixels: instant.Pixels) -> Edit:
    sample = samples.rows["edits"]
    assert isinstance(sample, Edit)
    source = edit.Critiqued(
        *(said.critique_id, image.image_id, image.sha256, said.prompt_id, said.prompt, said.instructions)
    )
    grid = {"guidance": [sample.guidance], "image_guidance": [sample.image_guidance]}
    asked = {"mode": "joined", "attempts": 1, "seed": 0, "settings": sample.settings}
    (task,) = edit.wanted(lambda: [source], **asked, **grid)
    return samples.like(
        Edit,
        task.key,
        image_id=image.image_id,
        image_sha256=image.sha256,
        critique_id=said.critique_id,
        instruction=said.instructions[0],
        seed=task.payload.seed,
        **_names(image),
        **_encoded(pixels),
    )


def _score(samples: Samples, row: Image | Edit, pixels: instant.Pixels) -> RewardScore:
    sample = samples.rows["rewards"]
    assert isinstance(sample, RewardScore)
    subject = score.Shown(
        "image" if isinstance(row, Image) else "edit", row.key, row.sha256, row.prompt_id, row.prompt
    )
    (task,) = score.wanted(lambda: [subject], reward=sample.reward, settings=sample.settings)
    return samples.like(
        RewardScore,
        task.key,
        subject=subject.subject,
        subject_id=row.key,
        subject_sha256=row.sha256,
        prompt_id=row.prompt_id,
        score=instant.scored(pixels),
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]), *map(int, sys.argv[2:]))
