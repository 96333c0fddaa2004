"""What the rounds of a training would do, and how far they are; loads no model and writes nothing."""

import json
from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq

from rpo_cli.errors import UsageError
from rpo_cli.line.rounds.checks import check
from rpo_cli.line.rounds.round import losers_of, pictures_each, round_folder, trained_folder
from rpo_cli.line.session import Line
from rpo_cli.line.work.prompts import parent_prompts
from rpo_cli.store import Store, open_store

State = Literal["done", "begun", "to do"]


@dataclass(frozen=True)
class RoundPlan:
    """One round; what is wanted is an upper bound where the losers of winners are to be made.

    Attributes:
        scored: scores that are there; one for each picture and reward is wanted.
        pairs: accepted ones; None before they are built.
    """

    number: int
    state: State
    pictures: int
    pictures_there: int
    scores: int
    scored: int
    pairs: int | None
    steps: int


@dataclass(frozen=True)
class RoundsStatus:
    """A training in rounds: how many were asked for, how many are done."""

    name: str
    rounds: int
    done: int


def plan_rounds(line: Line) -> list[RoundPlan]:
    """Every round of the training, as far as it is known.

    Raises:
        SettingsError: settings that contradict the method or the rounds.
        UsageError: no prompts, or no dataset to take winners from.
    """
    check(line)
    sources = _sources(line)
    return [_plan(line, number, sources) for number in range(1, (line.settings.train.rounds or 0) + 1)]


def _sources(line: Line) -> int:
    """Prompts, or winners, of a round."""
    if losers_of(line.settings.train) == "given":
        return len(parent_prompts(line))
    files = sorted((line.store.path("dataset") / "data").glob("*.parquet"))
    if not files:
        raise UsageError(
            f"{line.store.path('dataset')}: no dataset yet, and "
            f"{line.settings.train.method} learns from its winners",
            f"rpo build-pairs {line.store.url}",
        )
    return sum(int(pq.read_metadata(file).num_rows) for file in files)


def _plan(line: Line, number: int, sources: int) -> RoundPlan:
    wanted, rewards = sources * pictures_each(line), len(line.settings.score.rewards)
    given = 0 if losers_of(line.settings.train) == "given" else sources
    done = (trained_folder(line, number) / "done.json").is_file()
    try:
        store = open_store(round_folder(line, number), create=False)
    except UsageError:
        store = None
    there = _there(store) if store else (0, 0, None)
    state: State = "done" if done else "begun" if store else "to do"
    steps = line.settings.train.steps
    return RoundPlan(number, state, wanted, there[0], (wanted + given) * rewards, there[1], there[2], steps)


def _there(store: Store) -> tuple[int, int, int | None]:
    """Pictures that the round made, scores, accepted pairs."""
    given = store.read_manifest().get("imports", {})
    pictures = sum(count for group, count in store.counts("images").items() if group not in given)
    verdicts = store.columns("pairs", ["verdict"])["verdict"].to_pylist()
    return pictures, len(store.keys("rewards")), verdicts.count("accepted") if verdicts else None


def rounds_status(store: Store) -> list[RoundsStatus]:
    """Every training of a run that was made in rounds, by name; reads names and one small file of each."""
    found = []
    for path in store.files.find("train", "/settings.json"):
        parts = path.split("/")
        saved = json.loads(store.files.read(path)) if len(parts) == 3 else {}
        if "rounds" in saved:
            name = parts[1]
            place = f"train/{name}/rounds"
            done = [
                file.split("/")[3]
                for file in store.files.find(place, f"/train/{name}/done.json")
                if len(file.split("/")) == 7
            ]
            found.append(RoundsStatus(name, int(saved["rounds"]), len(done)))
    return sorted(found, key=lambda status: status.name)
