"""What `generate` makes pictures of: prompts and noise, or winners that are given to it (spin, sapo)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.line.imports.sources import imported
from rpo_cli.line.session import Line
from rpo_cli.line.work.prompts import live_prompts
from rpo_cli.protocols import Task
from rpo_cli.stages import generate, opponents


@dataclass(frozen=True)
class Making:
    """The tasks of `generate`, and the kind of backend, step and bucket that serve them."""

    tasks: list[Task]
    kind: str = "generators"  # of the backend, in the registry
    step: Callable[[Sequence[Task], Any, int], list[Any]] = generate.step
    bucket: Callable[[Task], Any] = generate.bucket
    picture_of: Callable[[Task], tuple[str, str]] | None = None


def making(line: Line, settings: str) -> Making:
    """For `settings`, the canonical JSON of all that a picture's key holds.

    Raises:
        UsageError: losers are to be made, and no winner is given.
    """
    s, seed = line.settings.generate, line.settings.run.seed
    if line.settings.pairs.strategy not in opponents.STRATEGIES:
        prompts = live_prompts(line)
        tasks = generate.wanted(prompts, count=s.images_per_prompt, seed=seed, settings=settings)
        return Making(list(tasks))
    found = opponents.wanted(
        winners(line), count=s.images_per_prompt, seed=seed, settings=settings, strengths=s.strengths
    )
    if not s.strengths:
        return Making(list(found))
    return Making(
        list(found),
        "renoisers",
        opponents.step,
        opponents.bucket,
        lambda task: ("images", task.input_id),
    )


def winners(line: Line) -> list[opponents.Winner]:
    """The imported pictures that were not made to lose themselves, by key.

    Raises:
        UsageError: there are none.
    """
    given = imported(line, "images")
    columns = ["image_id", "sha256", "prompt_id", "prompt", "against", "decoding"]
    found = [
        opponents.Winner(
            *(row["image_id"], row["sha256"], row["prompt_id"], row["prompt"]), decoding=row["decoding"]
        )
        for row in line.store.columns("images", columns).to_pylist()
        if row["image_id"] in given and row["against"] is None
    ]
    if not found:
        raise UsageError(
            f"{line.store.url}: no winners are given, and pairs.strategy = "
            f"{line.settings.pairs.strategy} needs some",
            "`rpo train RUN --method spin --rounds K` gives those of RUN/dataset to its rounds",
        )
    return sorted(found, key=lambda winner: winner.image_id)
