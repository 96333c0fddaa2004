"""Runs of the line that were made otherwise: other instructions, worse judges, more pictures a prompt.

An arm of evidence.toml with `instructions = "random"`, `noise`, counter-edits or more pictures a prompt has
its pairs from such a run; the start pictures are those of the protocol's own run, and more of their kind.
"""

import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rpo_cli import run_stage
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stage_of
from rpo_cli.records import Critique
from rpo_cli.shapes.edits import say
from rpo_cli.shapes.grammar import parse_caption
from rpo_cli.shapes.recipe.draws import draw_edit
from tests.bench.lines import Table, dataset_line

# of an arm's options: these shape the run, the rest its pairs
SAMPLING = {"generate.images_per_prompt", "edit.counter_edits", "pairs.edits"}


def origin(data: Table, work: Path, arm: Table) -> tuple[Path, Table]:
    """(Work folder, options) of the run that an arm's pairs come from; made where it is not."""
    asked = arm.get("options", {})
    options = {key: value for key, value in asked.items() if key in SAMPLING}
    if not options and not {"instructions", "noise"} & set(arm):
        return work, options
    home = work / "variants" / run_name(arm)
    # the run's own critic and rewards have spoken of its pictures already
    same = {"instructions", "noise"}.isdisjoint(arm) and "edit.counter_edits" in options
    for table in ("prompts", "images", *(("critiques", "rewards") if same else ())):
        shutil.copytree(work / "data" / table, home / "data" / table, dirs_exist_ok=True)
    if "noise" in arm:
        options |= worse_models(dataset_line(data, work), home, arm["noise"])
    line = dataset_line(data, home, options)
    run_stage(line, "generate")
    if "instructions" in arm:
        instruct_at_random(line)
    edits = asked.get("pairs.strategy") != "seeds"
    for stage in ("critique", "edit", "score") if edits else ("score",):
        run_stage(line, stage)
    return home, options


def run_name(arm: Table) -> str:
    """Of the folder of an arm's run: arms whose rows are made alike share it."""
    asked = {**arm.get("options", {}), **{key: arm[key] for key in ("instructions", "noise") if key in arm}}
    made = sorted(key for key in asked if key in {*SAMPLING, "instructions", "noise"} - {"pairs.edits"})
    return "-".join(f"{key.rpartition('.')[2]}-{asked[key]}" for key in made)


def instruct_at_random(line: Line) -> None:
    """Give each picture that has no critique one: a random edit of what its prompt describes."""
    (work,) = stage_of("critique").works(line)
    missing = list(work.tasks(work.keys.without(line.store.keys("critiques"))))
    rows = []
    for task in missing:
        scene = parse_caption(task.payload.prompt)
        assert scene is not None, task.payload.prompt
        asked = say(scene, draw_edit(scene, random.Random(task.key)))
        rows.append(
            Critique(
                critique_id=task.key,
                image_id=task.payload.image_id,
                image_sha256=task.payload.image_sha256,
                prompt_id=task.payload.prompt_id,
                prompt=task.payload.prompt,
                text="Nobody looked at the picture.",
                flaws=(),
                instructions=(asked,),
                reply="",
                attempt=0,
                seed=task.payload.seed,
                batch_size=1,
                settings=work.settings,
                environment="{}",
            )
        )
    if rows:
        line.store.commit("critiques", rows, group=work.group)


def worse_models(line: Line, home: Path, noise: float) -> Table:
    """Options that name copies of the run's critic and rewards with noise on their weights."""
    s = line.settings
    named = {"critique": str(s.critique.critic), **dict(ref.split("=", 1) for ref in s.score.rewards)}
    worse = {name: str(worsened(Path(ref), home / name, noise)) for name, ref in named.items()}
    rewards = [f"{name}={folder}" for name, folder in worse.items() if name != "critique"]
    return {"critique.critic": worse["critique"], "score.rewards": rewards}


def worsened(model: Path, out: Path, noise: float) -> Path:
    """A copy of a model's folder; every matrix gets Gaussian noise of `noise` times its own spread."""
    if out.is_dir():
        return out
    shutil.copytree(model, out)
    for file in sorted(out.rglob("*.safetensors")):
        draws = torch.Generator().manual_seed(0)
        tensors = load_file(file)
        for name in sorted(tensors):
            if (weight := tensors[name]).is_floating_point() and weight.ndim > 1:
                spread = noise * weight.float().std()
                added = torch.randn(weight.shape, generator=draws) * spread
                tensors[name] = (weight.float() + added).to(weight.dtype)
        save_file(tensors, file, metadata={"format": "pt"})
    return out
