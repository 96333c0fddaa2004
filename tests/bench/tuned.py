"""Train on a folder of pairs, and measure base and tuned models on the same prompts and start noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rpo_cli import open_line, registry, run_stage
from rpo_cli.line.session import Line
from rpo_cli.line.training import own_settings
from rpo_cli.pictures import decode
from rpo_cli.statistics import crossed_means
from rpo_cli.train.composition import Embedder, TrainInputs
from rpo_cli.train.run import train
from tests.bench.cells import as_flags
from tests.bench.lines import ORACLE, Table, dataset_line, pictures_of, prompt_file


def tune(data: Table, work: Path, dataset: Path, options: Table, seed: int) -> Path:
    """The adapter of one training on `dataset`; an earlier one of the same name and settings counts.

    Args:
        options: settings of `[train]`; `train.name` tells the trainings of one work folder apart.
    """
    line = dataset_line(data, work, {**options, "train.seed": seed})
    settings = own_settings(line)
    generator = str(line.settings.generate.generator)
    clip = dict(ref.split("=", 1) for ref in line.settings.score.rewards)["clip"]
    identity = line.identity(clip)
    inputs = TrainInputs(
        settings,
        dataset=dataset,
        model=generator,
        revision=None,
        model_identity=line.identity(generator).revision,
        out=work / "train" / settings.name,
        cache=work / "cache",
        seed=seed,
        device="cpu",
        threads=1,
        embedder=Embedder(clip, identity.commit, identity.revision),
    )
    return Path(train(inputs).adapter)


def evaluation_line(evaluation: Table, work: Path, split: str, name: str, adapter: Path | None) -> Line:
    options = {
        "prompts.file": str(prompt_file(work, split, evaluation["prompts"], evaluation["prompt_seed"])),
        "run.seed": evaluation["run_seed"],
        "run.threads": 1,
        "generate.images_per_prompt": 1,
        "generate.lora": str(adapter) if adapter else None,
        **evaluation.get("options", {}),
    }
    return open_line(work / "eval" / f"{split}-{name}", options, preset="shapes")


def measure(
    evaluation: Table,
    work: Path,
    split: str,
    name: str,
    adapter: Path | None,
    *,
    base: str = "base",
    score: bool = True,
) -> Table:
    """What the oracle and the rewards find in one picture of each prompt.

    base: the name that the base is measured by, with the same options. score: by the rewards too.

    Returns:
        right: flags, one a prompt; two_objects: likewise, of the base alone, since it is of the prompts.
        Means over the prompts: attributes, rewards, and drift, |difference| in [0, 1] to the base model's
        picture of the same noise.
    """
    line = evaluation_line(evaluation, work, split, name, adapter)
    run_stage(line, "generate")
    if score:
        run_stage(line, "score")
    base_line = evaluation_line(evaluation, work, split, base, None)
    run_stage(base_line, "generate")
    made, base = pictures_of(line), pictures_of(base_line)
    oracle = registry.load("measures", ORACLE)
    readings = [oracle(decode(picture), prompt) for prompt, picture, _ in made]
    sides = zip(made, base, strict=True)
    drift = [np.abs(_pixels(tuned) - _pixels(plain)).mean() for (_, tuned, _), (_, plain, _) in sides]
    return {
        "right": as_flags(all(reading.values()) for reading in readings),
        **({} if adapter else {"two_objects": as_flags("relation" in reading for reading in readings)}),
        "drift": float(np.mean(drift)),
        "rewards": {name: float(np.mean([s[name] for _, _, s in made])) for name in made[0][2]},
        "attributes": {
            name: float(np.mean([reading[name] for reading in readings if name in reading]))
            for name in {key for reading in readings for key in reading}
        },
    }


def _pixels(picture: bytes) -> np.ndarray:
    """Channel values in [0, 1]."""
    return np.asarray(decode(picture), dtype=np.float32) / 255


def max_t(tables: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> list[float]:
    """p of each pair's difference when all pairs are looked at (Westfall and Young 1993, single step).

    The share of draws in which the largest of all differences, each from its own mean and in its own
    standard errors, is as large as the one that was found.

    Args:
        tables: arm → (training seeds, prompts); pairs: arms that are compared, no arm with itself.
    """
    means = dict(zip(tables, crossed_means([*tables.values()]), strict=True))
    drawn = np.stack([means[one] - means[other] for one, other in pairs])  # (pairs, draws)
    found = np.array([tables[one].mean() - tables[other].mean() for one, other in pairs])
    errors = drawn.std(axis=1)
    largest = (np.abs(drawn - found[:, None]) / errors[:, None]).max(axis=0)
    return [float(np.mean(largest >= t)) for t in np.abs(found) / errors]
