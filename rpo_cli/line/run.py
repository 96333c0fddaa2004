"""The steps of the line in order; each can be called again at any time and does only what is missing."""

from dataclasses import dataclass
from pathlib import Path

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.context import Line
from rpo_cli.line.dataset import PairsReport, build_dataset
from rpo_cli.line.preflight import preflight
from rpo_cli.line.sheet import draw_contact_sheet
from rpo_cli.line.stage import STAGES, Shard, StageReport, run_stage
from rpo_cli.line.training import TrainReport, train
from rpo_cli.line.work import (
    critique_work,
    edit_work,
    generate_work,
    reward_models,
    score_works,
)

STEPS = ("generate", "critique", "edit", "build-pairs", "train")


def build_pairs(line: Line) -> PairsReport:
    """Candidate pairs, verdicts and the dataset from the tables and scores that are there: no model."""
    if not line.settings.score.rewards:
        raise UsageError("no reward is set", "pass --reward NAME=FOLDER; see `rpo list rewards`")
    with line.store.lock("build-pairs"):
        live = {
            "images": generate_work(line).keys,
            "critiques": critique_work(line).keys,
            "edits": edit_work(line).keys,
            "rewards": {key for work in score_works(line) for key in work.keys},
        }
        models = {
            "generator": generate_work(line).models[0],
            "critic": critique_work(line).models[0],
            "editor": edit_work(line).models[0],
            **{f"reward {name}": line.identity(ref) for name, ref in reward_models(line)},
        }
        line.record()
        return build_dataset(
            line.store,
            line.settings.pairs,
            live=live,
            models={role: f"{Path(item.ref).name} {item.revision[:16]}" for role, item in models.items()},
            notes=line.resolved.notes,
            observer=line.observer,
        )


@dataclass(frozen=True)
class RunReport:
    """What `run` made, step by step."""

    stages: list[StageReport]
    pairs: PairsReport | None
    train: TrainReport | None
    contact_sheet: Path | None


def run(line: Line, until: str | None = None, *, shard: Shard | None = None) -> RunReport:
    """Walk the line: generate, critique, edit, build-pairs, train; stop after `until`."""
    if until is not None and until not in STEPS:
        raise UsageError(f"'{until}' is no step{nearest(until, STEPS)}", f"one of {', '.join(STEPS)}")
    steps = STEPS[: STEPS.index(until) + 1] if until else STEPS
    preflight(line, steps)
    stages = [run_stage(line, name, shard=shard) for name in steps if name in STAGES]
    pairs = train_report = sheet = None
    if "build-pairs" in steps:
        stages.append(run_stage(line, "score", shard=shard))
        pairs = build_pairs(line)
        sheet = draw_contact_sheet(line)
    if "train" in steps:
        train_report = train(line)
    return RunReport(stages, pairs, train_report, sheet)
