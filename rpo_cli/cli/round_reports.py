"""What `rpo train --rounds` prints: a line per round."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rpo_cli.cli import reports
from rpo_cli.cli.output import Output, counted, duration, size, table

if TYPE_CHECKING:
    from rpo_cli.line.rounds.checks import RoundPlan
    from rpo_cli.line.rounds.measurements import RoundNumbers
    from rpo_cli.line.rounds.train import RoundsReport
    from rpo_cli.train.look_ahead.plan import TrainPlan
    from rpo_cli.train.online.look_ahead import OnlinePlan, OnlineProbe


def trained(say: Output, report: "RoundsReport") -> None:
    """Rewards of the policy that each round began with, their spread over seeds, pairs and accuracy."""
    state = "was trained before" if report.skipped else "trained"
    head = f"{report.name}: {state}, {len(report.rounds)} rounds, {report.steps:,} steps in all"
    rewards = sorted({name for found in report.rounds for name in found.rewards})
    header = ["round", "pictures", *(column for name in rewards for column in (name, "over seeds"))]
    header += ["pairs", "held out", "in noise", "accuracy", "held-out accuracy", "dropped"]
    text = f"{head}\n{table(header, [_row(found, rewards) for found in report.rounds])}"
    say.result(report, f"{text}\nresult: {report.adapter}", essence=str(report.adapter))


def _row(found: "RoundNumbers", rewards: Sequence[str]) -> list[Any]:
    told: list[Any] = []
    for name in rewards:
        reward = found.rewards.get(name)
        error = "" if reward is None or reward.error is None else f" ± {reward.error:.2g}"
        told += ["", ""] if reward is None else [f"{reward.mean:.4g}{error}", f"{reward.spread:.2g}"]
    accuracies = ["" if x is None else f"{x:.3f}" for x in (found.accuracy, found.held_out_accuracy)]
    pairs = [found.pairs, found.held_out, found.noise]
    return [found.number, found.pictures, *told, *pairs, *accuracies, counted(found.dropped)]


def planned(say: Output, rounds: "Sequence[RoundPlan]", each: "TrainPlan") -> None:
    """What every round would do, then what one training of them takes."""
    header = ["round", "state", "pictures", "there", "scores", "there", "pairs", "steps"]
    rows = [
        [
            *(r.number, r.state, r.pictures, r.pictures_there, r.scores, r.scored),
            *("" if r.pairs is None else r.pairs, r.steps),
        ]
        for r in rounds
    ]
    text = f"{table(header, rows)}\n\neach round: {reports.plan_text(each)}"
    data = {"rounds": [asdict(found) for found in rounds], "training": each}
    say.result(data, text, essence=str(len(rounds)))


def online_probe(say: Output, probe: "OnlineProbe") -> None:
    """What a picture of a method on trajectories took, and the rounds that remain."""
    text = (
        f"train: {probe.pictures:,} pictures, {probe.drawing:.3g} s each to draw and score, "
        f"{probe.learning:.3g} s a use to learn from; {probe.remaining:,} rounds remain: "
        f"about {duration(3600 * probe.remaining_hours)}"
    )
    say.result(probe, text)


def online_plan(say: Output, found: "OnlinePlan") -> None:
    """What a method on trajectories would take, one thing a line."""
    flops, memory = vars(found.flops_per_picture), {k: v for k, v in vars(found.memory).items() if v}
    again, least = reports.tera(found.recomputed_per_picture), found.seconds_at_peak
    rows = [
        ["trained", f"{found.trained:,} of {found.parameters:,} parameters"],
        ["data", f"{found.prompts:,} prompts"],
        ["rounds", f"{found.rounds:,}, {found.pictures_per_round:,} pictures each"],
        ["pictures", f"{found.pictures:,} drawn, {found.scored:,} scored by each reward"],
        ["denoising steps", f"{found.denoising_steps:,}, of which {found.taught_steps:,} teach a use"],
        ["uses of a picture", f"{found.uses:,}"],
        ["optimiser steps", f"at most {found.updates:,} in all"],
        ["forward passes", f"{found.batch_size:,} pictures each"],
        ["FLOPs per picture", reports.listed(flops, reports.tera)],
        ["FLOPs in all", f"{reports.tera(found.flops_of_training)}, without VAE and rewards"],
        ["computed again to save memory", f"{again} per use of a picture"],
        ["time", "unknown on this device" if least is None else reports.at_least(least)],
        ["memory, estimated", f"{size(found.memory_total)} ({reports.listed(memory, size)})"],
    ]
    text = "\n".join(f"{name}: {told}" for name, told in rows)
    say.result(found, f"{found.method} on {found.model}\n{text}", essence=str(found.memory_total))
