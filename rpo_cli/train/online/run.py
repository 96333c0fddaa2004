"""The door of online methods; like `rpo_cli.train.run.train` it loads no model when the work is done."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rpo_cli.compute import launched, pick_device
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import content_key
from rpo_cli.train.online.compose import settled_online
from rpo_cli.train.origin import Rewards
from rpo_cli.train.run import (
    TrainReport,
    begin,
    commit,
    finished,
    identity_of,
    result_folder,
    with_exports,
)

if TYPE_CHECKING:
    from rpo_cli.train.distributed.launch import Share
    from rpo_cli.train.online.loop import Inputs
    from rpo_cli.train.online.rollout import Prompts


def train_online(
    settings: TrainSettings,
    online: OnlineSettings,
    *,
    prompts: "Prompts",
    rewards: Rewards,
    model: str,
    revision: str | None,
    model_identity: str,
    out: Path,
    seed: int,
    device: str,
    negative_prompt: str = "",
    threads: int = 0,
    observer: Observer | None = None,
) -> TrainReport:
    """Fine-tune `model` on pictures of its own, going on where an earlier call was cut off.

    May be killed at any moment: the same call again ends with the bytes an undisturbed one would have
    made, on the same kind of machine; a round that was not committed is made again. The caller holds the
    lock of `out`. Under a launcher every process calls it, as `train`.

    Args:
        online: with `steps` and `guidance` given.
        prompts: (prompt_id, prompt), in any order.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no prompts or rewards, a model that cannot be sampled so, or `out` belongs to others.
        RpoError: a loss or reward that is not finite, or memory is too small.
    """
    settings, online, objective = settled_online(settings, online)
    prompts = sorted(prompts)
    require_work(objective.name, online, prompts, rewards)
    asked = content_key(prompts, negative_prompt)
    told = {"online": online.model_dump(mode="json", exclude_none=True), "prompts": asked}
    told["rewards"] = dict(rewards.identities)
    identity = identity_of(settings, None, seed=seed, model=model_identity, **told)
    result = result_folder(out, settings.full)
    report = finished(out, identity, settings.name, result)
    if report is not None:
        place = (out, model, revision, model_identity, "", out, result, out, seed)
        return with_exports(report, settings, place, device, threads)
    begin(settings, out, identity)
    from rpo_cli.train.distributed.launch import crew, threads_each
    from rpo_cli.train.online.loop import Inputs, run_rounds

    what = (settings, online, objective, prompts, asked, rewards, negative_prompt)
    where = (model, revision, model_identity, out, result, seed, pick_device(device, launched()))
    inputs, items = Inputs(*what, *where), "pairs" if objective.paired else "pictures"
    threads = threads_each(threads, settings.processes)
    with crew(settings, inputs.device, partial(_share, inputs, threads), items) as world:
        state, first, last = run_rounds(inputs, threads, observer or Silent(), world)
    result = result_folder(out, settings.full)
    report = TrainReport(settings.name, state.step, 0, result, first, last, images=state.images)
    commit(out, identity, report)
    return report


def _share(inputs: "Inputs", threads: int, device: str) -> "Share":
    """What a helper on `device` does of a training."""
    from rpo_cli.train.online.loop import run_rounds

    return partial(run_rounds, replace(inputs, device=device), threads, Silent())


def require_work(name: str, online: OnlineSettings, prompts: "Prompts", rewards: Rewards) -> None:
    """Refuse a training that has nothing to sample or nothing to aim at."""
    if not prompts:
        raise UsageError(f"{name}: no prompts to sample", "give --prompts, or lower pairs.val_fraction")
    if not rewards.identities:
        raise UsageError(
            f"{name}: no reward to learn from",
            "pass --set 'score.rewards=[\"NAME=FOLDER\"]'; see `rpo list`",
        )
    if online.steps is None or online.guidance is None:
        raise UsageError(f"{name}: no denoising steps or guidance", "set online.steps and online.guidance")
