"""The door of online methods; like `rpo_cli.train.run.train` it loads no model when the work is done."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rpo_cli.compute import launched, pick_device
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import content_key
from rpo_cli.train.composition import OnlineInputs
from rpo_cli.train.objectives.online import OnlineObjective, settled_online
from rpo_cli.train.run import (
    TrainReport,
    begin,
    commit,
    family_code,
    finished,
    identity_of,
    result_folder,
    with_exports,
)

if TYPE_CHECKING:
    from rpo_cli.train.processes import Share


def train_online(inputs: OnlineInputs, observer: Observer | None = None) -> TrainReport:
    """Fine-tune the model on pictures of its own, going on where an earlier call was cut off.

    May be killed at any moment: the same call again ends with the bytes an undisturbed one would have
    made, on the same kind of machine; a round that was not committed is made again. The caller holds the
    lock of `out`. Under a launcher every process calls it, as `train`.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no prompts or rewards, a model that cannot be sampled so, or `out` belongs to others.
        RpoError: a loss or reward that is not finite, or memory is too small.
    """
    inputs, objective = of_method(inputs)
    require_work(objective.name, inputs)
    settings, out = inputs.settings, inputs.out
    what: dict[str, Any] = {"online": inputs.online.model_dump(mode="json", exclude_none=True)}
    what |= {"prompts": inputs.prompts_identity, "rewards": dict(inputs.rewards.identities)}
    what |= {"family": code} if (code := family_code(inputs)) else {}
    identity = identity_of(settings, None, seed=inputs.seed, model=inputs.model_identity, **what)
    report = finished(out, identity, settings)
    if report is not None:
        return with_exports(report, inputs)
    begin(settings, out, identity)
    from rpo_cli.train.online.loop import run_rounds
    from rpo_cli.train.processes import crew, threads_each

    device, items = pick_device(inputs.device, launched()), "pairs" if objective.paired else "pictures"
    threads = threads_each(inputs.threads, settings.processes)
    inputs = replace(inputs, device=device, threads=threads)
    with crew(settings, device, partial(_share, inputs, objective), items) as world:
        state, first, last = run_rounds(inputs, objective, world, observer=observer or Silent())
    result = result_folder(out, settings.full)
    report = TrainReport(settings.name, state.step, 0, result, first, last, images=state.images)
    commit(out, identity, report)
    return report


def of_method(inputs: OnlineInputs) -> tuple[OnlineInputs, OnlineObjective]:
    """The inputs with the method's own numbers, their prompts in order and by name; the method.

    Raises:
        SettingsError: settings that contradict the method.
    """
    settings, online, objective = settled_online(inputs.settings, inputs.online)
    prompts = sorted(inputs.prompts)
    name = content_key(prompts, inputs.negative_prompt)
    found = replace(inputs, settings=settings, online=online, prompts=prompts, prompts_identity=name)
    return found, objective


def _share(inputs: OnlineInputs, objective: OnlineObjective, device: str) -> "Share":
    """What a helper on `device` does of a training."""
    from rpo_cli.train.online.loop import run_rounds

    return partial(run_rounds, replace(inputs, device=device), objective, observer=Silent())


def require_work(name: str, inputs: OnlineInputs) -> None:
    """Refuse a training that has nothing to sample or nothing to aim at."""
    if not inputs.prompts:
        raise UsageError(f"{name}: no prompts to sample", "give --prompts, or lower pairs.val_fraction")
    if not inputs.rewards.identities:
        raise UsageError(
            f"{name}: no reward to learn from",
            "pass --set 'score.rewards=[\"NAME=FOLDER\"]'; see `rpo list`",
        )
    if inputs.online.steps is None or inputs.online.guidance is None:
        raise UsageError(f"{name}: no denoising steps or guidance", "set online.steps and online.guidance")
