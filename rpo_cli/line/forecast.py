"""What the steps of a run ahead will want, whose rows before them are not made yet.

Counted from the funnel so far (rows a stage has made of the rows before it), else from stated yields.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rpo_cli.line.plan import StagePlan, plan_of, size_of, take_planned
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import Work, critique_work, edit_work, floor_tasks, wants_edits, works
from rpo_cli.line.work.edit_floor import floor_size

# what rows are counted from; the first is exact, the others are yields that nobody has measured yet
PROMPTS = "the prompts"
A_PICTURE = "1 a picture to come"
AT_MOST = "at most {each} a critique to come, if each finds a flaw"
SO_FAR = "{each:.3g} a critique, as so far"
SUBJECTS = "1 a picture or edit to come"
TABLES = {"generate": "images", "critique": "critiques", "edit": "edits", "score": "rewards"}


@dataclass
class _Coming:
    """Rows that are not there yet and that later stages will see."""

    images: int = 0
    critiques: int = 0
    edits: int = 0


def forecast(line: Line, steps: Sequence[str], *, prompts: bool = True) -> list[StagePlan]:
    """One plan per model of the steps of `run` that make rows; loads no model and writes nothing.

    Args:
        steps: see `run.steps_of`.
        prompts: read the prompts' source; without, those that the run has are planned with.
    """
    if "generate" in steps and prompts:
        take_planned(line)
    coming = _Coming()
    plans: list[StagePlan] = []
    for step in steps:
        name = "score" if step == "build-pairs" else step
        if name in TABLES:
            plans += _stage(line, name, coming)
    return plans


def _stage(line: Line, name: str, coming: _Coming) -> list[StagePlan]:
    found = works(line, name)
    plans = [plan_of(line, work) for work in found]
    if name == "generate":
        plans = [replace(plan, basis=PROMPTS) for plan in plans]
        coming.images = sum(map(kept, plans))
    elif name == "critique":
        plans = [_more(line, name, plan, coming.images, A_PICTURE) for plan in plans]
        coming.critiques = sum(map(kept, plans))
    elif name == "edit":
        plans = [_edits(line, plan, coming) for plan in plans]
    else:
        plans = [
            _more(line, name, plan, seen, SUBJECTS)
            for plan, seen in zip(plans, _subjects(line, found, coming), strict=True)
        ]
    return plans


def _edits(line: Line, plan: StagePlan, coming: _Coming) -> StagePlan:
    """Edits and, beside any, the pictures of the floor, which no later stage sees."""
    each, basis = edits_each(line)
    more = round(coming.critiques * each)
    floor = {task.key for task in floor_tasks(line)}
    missing = len(floor - line.store.keys("edits") - line.store.rejected("edit"))
    edits = replace(plan, to_make=(plan.to_make or 0) - missing)
    coming.edits = kept(_more(line, "edit", edits, more, basis))
    later = floor_size(line, coming.images) - len(floor) if more or plan.wanted else 0
    return _more(line, "edit", plan, more + later, basis)


def kept(plan: StagePlan) -> int:
    """Rows that a stage will still accept, at the share of those that it has tried so far."""
    tried = plan.present + plan.rejected
    return round((plan.to_make or 0) * (plan.present / tried if tried else 1))


def edits_each(line: Line) -> tuple[float, str]:
    """Edits that a critique brings, and where that is from."""
    critiques = critique_work(line)
    there = len(critiques.keys & line.store.keys("critiques"))
    if there:
        each = len(edit_work(line).tasks) / there
        return each, SO_FAR.format(each=each)
    s, taken = line.settings.edit, line.settings.pairs.edits
    grid = s.edits_per_image * len(set(s.guidance or (0,))) * len(set(s.image_guidance or (0,)))
    chains = line.settings.critique.max_instructions if s.mode == "each" else 1
    most = (grid * chains if taken != "counter" else 0) + (s.counter_edits if taken != "answers" else 0)
    return most, AT_MOST.format(each=most)


def _subjects(line: Line, found: Sequence[Work], coming: _Coming) -> list[int]:
    """Pictures and edits to come that each work of `score` sees; a judge has a work for each of both."""
    edits = coming.edits if wants_edits(line) else 0
    names = [work.name for work in found]
    return [
        coming.images + edits
        if names.count(name) == 1
        else (coming.images if names.index(name) == place else edits)
        for place, name in enumerate(names)
    ]


def _more(line: Line, name: str, plan: StagePlan, rows: int, basis: str) -> StagePlan:
    if not rows:
        return plan
    to_make = (plan.to_make or 0) + rows
    return replace(
        plan,
        wanted=(plan.wanted or 0) + rows,
        to_make=to_make,
        bytes=size_of(line, TABLES[name], to_make),
        basis=basis,
    )
