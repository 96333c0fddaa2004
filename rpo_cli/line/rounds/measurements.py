"""What a round measured: the policy's rewards, their spread over start seeds, pairs and accuracy."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rpo_cli.line.dataset.build import PairsReport
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.score import score_works
from rpo_cli.stages.margins import Scored, Scores, scales
from rpo_cli.train.run import TrainReport

ACCURACY = "implicit_accuracy"


@dataclass(frozen=True)
class RewardNumbers:
    """One reward on the pictures that a round made.

    Attributes:
        mean: over pictures, in the reward's own unit.
        error: standard error of the mean, from the spread of the prompts' means; None for one prompt.
        spread: standard deviation over the start seeds of one prompt, the unit of margins.
        basis: what the spread was taken over; not the seeds when no prompt has two pictures that differ.
    """

    mean: float
    error: float | None
    spread: float
    basis: str


@dataclass(frozen=True)
class RoundNumbers:
    """One round: what its policy made, before it was trained on it.

    Attributes:
        noise: pairs left out because their margin is inside the noise of the start seed.
        dropped: candidates by the gate that dropped them, those of `noise` too.
        accuracy: share of the pairs that policy and label rank alike, at the last step; None where no
            reference runs. `held_out_accuracy`: of the pairs that were not trained on.
    """

    number: int
    prompts: int
    pictures: int
    candidates: int
    pairs: int
    held_out: int
    noise: int
    dropped: dict[str, int] = field(default_factory=dict)
    rewards: dict[str, RewardNumbers] = field(default_factory=dict)
    accuracy: float | None = None
    held_out_accuracy: float | None = None

    def row(self) -> dict[str, Any]:
        """A line of metrics.jsonl, every number by a flat name."""
        numbers = asdict(self)
        flat = {
            name: value for name, value in numbers.items() if name not in ("number", "rewards", "dropped")
        }
        told = {f"dropped_{reason}": count for reason, count in sorted(self.dropped.items())}
        for reward, found in sorted(self.rewards.items()):
            told |= {f"{reward}_{name}": getattr(found, name) for name in ("mean", "error", "spread")}
        both = {name: value for name, value in (flat | told).items() if value is not None}
        return {"split": "rounds", "step": self.number, **both}

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> "RoundNumbers":
        """From `asdict` of one."""
        rewards = {name: RewardNumbers(**found) for name, found in saved["rewards"].items()}
        return cls(**{**saved, "rewards": rewards})


def measure(nested: Line, number: int, pairs: PairsReport, trained: TrainReport) -> RoundNumbers:
    """Of a round whose training is done; reads light columns only."""
    prompts, rewards = rewards_of(nested)
    return RoundNumbers(
        number=number,
        prompts=len(prompts),
        pictures=sum(map(len, prompts.values())),
        candidates=pairs.candidates,
        pairs=pairs.train,
        held_out=pairs.validation,
        noise=pairs.dropped.get("inside_band", 0),
        dropped=pairs.dropped,
        rewards=rewards,
        accuracy=trained.train_last.get(ACCURACY),
        held_out_accuracy=trained.validation_last.get(ACCURACY),
    )


def rewards_of(nested: Line) -> tuple[dict[str, list[str]], dict[str, RewardNumbers]]:
    """(prompt_id → hashes of its pictures, reward → its numbers), of what the round's policy made."""
    made = generate_work(nested).keys
    prompts: dict[str, list[str]] = defaultdict(list)
    for row in nested.store.columns("images", ["image_id", "prompt_id", "sha256"]).to_pylist():
        if row["image_id"] in made:
            prompts[row["prompt_id"]].append(row["sha256"])
    wanted = {key for work in score_works(nested) for key in work.keys}
    columns = ["score_id", "prompt_id", "subject_sha256", "reward", "score"]
    rows = [
        row for row in nested.store.columns("rewards", columns).to_pylist() if row["score_id"] in wanted
    ]
    scores = Scores.of(
        Scored(row["prompt_id"], row["subject_sha256"], row["reward"], row["score"]) for row in rows
    )
    found = scales([(scores, prompts)])
    return dict(prompts), {
        reward: _numbers(reward, scores, prompts, found[reward].sd, found[reward].basis)
        for reward in scores.rewards
    }


def _numbers(
    reward: str, scores: Scores, prompts: Mapping[str, list[str]], spread: float, basis: str
) -> RewardNumbers:
    by_prompt = [
        [value for sha in sorted(found) if (value := scores.get(prompt, sha).get(reward)) is not None]
        for prompt, found in sorted(prompts.items())
    ]
    means = [math.fsum(values) / len(values) for values in by_prompt if values]
    everything = [value for values in by_prompt for value in values]
    mean = math.fsum(everything) / len(everything) if everything else math.nan
    return RewardNumbers(mean, standard_error(means), spread, basis)


def standard_error(values: list[float]) -> float | None:
    """Of the mean, sd / √n with n - 1 in the variance; None below two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
