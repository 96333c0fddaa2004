"""What commands print: each report of the line as text for people; `Output` makes the JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpo_cli.cli.output import Output, counted, duration, size, table
from rpo_cli.errors import RpoError

if TYPE_CHECKING:
    from rpo_cli.line.dataset.build import PairsReport
    from rpo_cli.line.dataset.export import ExportReport
    from rpo_cli.line.dataset.push import PushReport
    from rpo_cli.line.imports.sources import Withdrawn
    from rpo_cli.line.imports.summary import ImportReport
    from rpo_cli.line.rounds.checks import RoundPlan
    from rpo_cli.line.rounds.measurements import RoundNumbers
    from rpo_cli.line.rounds.train import RoundsReport
    from rpo_cli.line.run import Probe, RunReport
    from rpo_cli.line.stage import StageReport
    from rpo_cli.line.work.base import StagePlan
    from rpo_cli.train.composition import BetaAdvice
    from rpo_cli.train.look_ahead.plan import TrainPlan
    from rpo_cli.train.look_ahead.probe import TrainProbe
    from rpo_cli.train.online.look_ahead import OnlinePlan, OnlineProbe
    from rpo_cli.train.run import Prepared, TrainReport

MOST = 20  # names that are told one by one


def stage(say: Output, report: "StageReport", run: str) -> None:
    """One line; then a failure when rows were wanted and none was accepted."""
    say.result(report, stage_line(report))
    refuse_empty([report], run)


def stage_line(report: "StageReport") -> str:
    """ "generate: 189 of 192 rows (60 were there, 129 made), 3 rejected (black_image 3), 42.0 s, 4 rows/s".

    The pace is without loading.
    """
    have = report.present + report.made
    text = f"{report.stage}: {have:,} of {report.wanted:,} rows"
    text += f" ({report.present:,} were there, {report.made:,} made)"
    pace = "" if report.rate is None else f", {report.rate:.3g} rows/s"
    return f"{text}{_rejected(report)}, {report.seconds:.1f} s{pace}"


def _rejected(report: "StageReport") -> str:
    return f", {report.rejected:,} rejected ({counted(report.rejects)})" if report.rejected else ""


def refuse_empty(reports: "Sequence[StageReport]", run: str) -> None:
    """Exit 1 when a stage wanted rows and has none.

    Raises:
        RpoError: names the stage and the reasons.
    """
    for report in reports:
        if report.wanted and not report.present + report.made:
            raise RpoError(
                f"{report.stage}: none of {report.wanted:,} rows was accepted{_rejected(report)}",
                f"`rpo status {run}` counts the reasons; mend the cause, then --retry-rejects",
            )


def plans(say: Output, found: "Sequence[StagePlan]") -> None:
    header = ["stage", "wanted", "present", "rejected", "to make", "about", "counted from", "models"]
    rows = [
        [p.stage, p.wanted, p.present, p.rejected, p.to_make, size(p.bytes), p.basis, ", ".join(p.models)]
        for p in found
    ]
    say.result(found, table(header, rows))


def imported(say: Output, report: "ImportReport") -> None:
    """What a run has of a source; a failure when every row of it was rejected."""
    pairs = f"{report.judged:,} judged pairs, {report.ties:,} ties, {report.unanswered:,} without an answer"
    text = f"import: {report.source} as {report.format}: {report.images:,} pictures, {pairs}"
    text += f", {report.alone:,} judged alone" if report.alone else ""
    text += f", {report.critiques:,} critiques" if report.critiques else ""
    text += f", {report.rejected:,} rejected ({counted(report.rejects)})" if report.rejected else ""
    changes = {"added": report.added, "changed": report.changed, "withdrawn": report.withdrawn}
    changed = ", ".join(f"{count:,} {name}" for name, count in changes.items())
    rows = report.taken + report.rejected + report.left_out
    text += f"\nrows: {rows:,}: {report.taken:,} taken, {report.rejected:,} rejected"
    text += f", {report.left_out:,} left out (prompts.leave_out)" if report.left_out else ""
    text += f"; {changed if any(changes.values()) else 'nothing has changed'}"
    text += f"; {report.doubled:,} say what another one says" if report.doubled else ""
    text += f"; {report.contradicted:,} pairs are judged both ways" if report.contradicted else ""
    if report.unused:
        text += f"\ncolumns that were not used: {_named(report.unused)} (--map gives a column a role)"
    say.result(report, f"{text}\nlicence of the data: {report.license}", essence=str(report.images))
    if not report.images:
        raise RpoError(
            f"import: no row of {report.source} was accepted ({counted(report.rejects) or 'it is empty'})",
            "the rejects table of the run has every row with its reason",
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def withdrawn(say: Output, report: "Withdrawn") -> None:
    """What takes part no more."""
    gone = f"{report.images:,} pictures, {report.preferences:,} judgements, {report.critiques:,} critiques"
    gone += f", {report.prompts:,} prompts"
    text = f"withdrawn: {report.source} ({report.id}); no longer part of the run: {gone}"
    text += f"; {report.shared:,} rows stay, which another source has too" if report.shared else ""
    say.result(report, text, essence=report.id)


def exported(say: Output, report: "ExportReport") -> None:
    rows = counted(report.rows) or "no rows"
    state = "written" if report.fresh else "was there already"
    text = f"{report.format}: {rows}, {state}\n{report.account}\n{report.path}"
    say.result(report, text, essence=report.path)


def pushed(say: Output, report: "PushReport") -> None:
    """Where the dataset is, who can see it, and the licences that nothing is known of."""
    found = report.pushed
    seen = "private" if found.private else "PUBLIC"
    text = f"pushed {found.files:,} files to {found.url} ({seen}), commit {found.commit[:12]}"
    say.result(report, text, essence=found.url)
    unknown = [f"{item.what} {item.name}" for item in report.inherited if item.license is None]
    if unknown:
        say.hint(f"no licence is known of: {', '.join(unknown)}; say in the card what applies")


def train_probed(say: Output, probe: "TrainProbe") -> None:
    text = (
        f"train: {probe.steps:,} steps in {probe.seconds:.1f} s, {probe.pairs_per_second:.3g} pairs/s; "
        f"{probe.remaining:,} steps remain: "
        f"about {duration(3600 * probe.remaining_hours)}, validation apart"
    )
    say.result(probe, text)


def probed(say: Output, probe: "Probe") -> None:
    text = (
        f"{probe.stage}: {probe.rows:,} rows in {probe.seconds:.1f} s, {probe.rows_per_second:.3g} rows/s; "
        f"{probe.remaining:,} rows remain: "
        f"about {duration(3600 * probe.remaining_hours)}, {size(probe.remaining_bytes)}"
    )
    if not probe.recorded:
        rows = f"{2 * probe.full_round:,} row{'s' * (2 * probe.full_round > 1)}"
        text += f"\na rate of {probe.rows:,} rows, fewer than two full rounds ({rows}), loading included"
        text += ": not recorded"
    say.result(probe, text)


def pairs(say: Output, scores: "StageReport", report: "PairsReport", run: str) -> None:
    """Scores, verdicts and the dataset; a failure when candidates came and none was accepted."""
    lines = [stage_line(scores), _pairs(report), f"dataset: {report.path}"]
    say.result({"score": scores, "pairs": report}, "\n".join(lines), essence=str(report.path))
    refuse_empty([scores], run)
    _refuse_no_pairs(report, run)


def _pairs(report: "PairsReport") -> str:
    text = f"pairs: {report.accepted:,} of {report.candidates:,} candidates, {report.reversed:,} reversed"
    return f"{text}; dropped: {counted(report.dropped)}" if report.dropped else text


def _refuse_no_pairs(report: "PairsReport", run: str) -> None:
    if report.candidates and not report.accepted:
        raise RpoError(
            f"build-pairs: none of {report.candidates:,} candidates passed ({counted(report.dropped)})",
            f"lower --min-margin or --min-agreement; {run}/pairs holds every candidate with its reason",
        )


def trained(say: Output, report: "TrainReport") -> None:
    state = "was trained before" if report.skipped else "trained"
    data = f"{report.images:,} pictures of its own" if report.images else f"{report.pairs:,} pairs"
    text = f"{report.name}: {state}, {report.steps:,} steps on {data}\n{_metrics(report)}"
    say.result(report, f"{text}\nresult: {report.adapter}", essence=str(report.adapter))


def prepared(say: Output, report: "Prepared") -> None:
    text = f"encoded: {report.pairs:,} pairs and {report.held_out:,} held out\ncache: {report.cache}"
    say.result(report, text, essence=str(report.cache))


def training_plan(say: Output, found: "TrainPlan") -> None:
    say.result(found, plan_text(found), essence=str(found.memory_total))


def plan_text(found: "TrainPlan") -> str:
    """What a training would take, one thing a line."""
    pairs = "no dataset yet" if found.pairs is None else f"{found.pairs:,} pairs"
    drawn = found.steps * found.global_batch
    epochs = f" = {drawn / found.pairs:.3g} epochs" if found.pairs else ""
    flops, memory = vars(found.flops), {k: v for k, v in vars(found.memory).items() if v}
    rows = [
        ["trained", f"{found.trained:,} of {found.parameters:,} parameters"],
        ["data", pairs],
        ["steps", f"{found.steps:,}, {found.global_batch:,} pairs each{epochs}"],
        ["forward passes", f"{found.passes_per_step:,} a step, {found.batch_size:,} pairs each"],
        ["FLOPs per pair", f"{tera(found.flops_per_pair)} ({listed(flops, tera)})"],
        ["FLOPs in all", tera(found.flops_of_training)],
        ["of them validation", tera(found.flops_of_validation)],
        ["computed again to save memory", f"{tera(found.recomputed_per_pair)} per pair"],
        ["time", at_least(found.seconds_at_peak)],
        ["memory, estimated", f"{size(found.memory_total)} ({listed(memory, size)})"],
    ]
    lines = [f"{name}: {text}" for name, text in rows]
    return "\n".join([f"{found.method} on {found.model}", *lines, *found.notes])


def at_least(seconds: float | None) -> str:
    if seconds is None:
        return "unknown on this device; --probe K times some steps"
    return f"at least {seconds / 3600:.2g} hours, at the device's peak"


def tera(count: int) -> str:
    return f"{count / 1e12:,.3g} T"


def listed(parts: Mapping[str, int], told: Callable[[int], str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {told(value)}" for name, value in parts.items())


def beta(say: Output, advice: "BetaAdvice") -> None:
    """The proposed β as each trainer writes it, and what it rests on."""
    rows = [
        ["salesforce", "errors as means, with the 1/2", f"{advice.beta:g}"],
        ["diffusers-sd", "errors as means, without it", f"{advice.diffusers_sd:g}"],
        ["summed", "errors as sums, with the 1/2", f"{advice.summed:.4g}"],
    ]
    text = f"{advice.method}: {advice.rule}\n{table(['--beta-from', 'convention', '--beta'], rows)}\n"
    text += f"from {advice.pairs} draws: mean error {advice.reference_error:.4g}, "
    text += f"spread of loser minus winner {advice.spread:.4g}"
    say.result(advice, text, essence=f"{advice.beta:g}")


def _metrics(report: "TrainReport") -> str:
    """First and last value of every number that training and validation measured."""
    rows = [
        [split, name, f"{first[name]:.5g}" if name in first else "", f"{value:.5g}"]
        for split, first, last in (
            ("train", report.train_first, report.train_last),
            ("validation", report.validation_first, report.validation_last),
        )
        # one order, whether trained now or read from done.json
        for name, value in sorted(last.items(), key=lambda item: (item[0] != "loss", item[0]))
        if name != "step"
    ]
    return table(["split", "measure", "first", "last"], rows)


def whole(say: Output, report: "RunReport", run: str) -> None:
    """A short table of what the line made, then where to look; a failure when a step accepted nothing."""
    rows: list[list[Any]] = [
        [r.stage, r.present + r.made, r.wanted, counted(r.rejects), f"{r.seconds:.1f}"]
        for r in report.stages
    ]
    if report.pairs is not None:
        found = report.pairs
        rows.append(["build-pairs", found.accepted, found.candidates, counted(found.dropped), ""])
    parts = [table(["step", "rows", "wanted", "rejected or dropped", "seconds"], rows)]
    if report.train is not None:
        parts.append(_metrics(report.train))
    parts.append("\n".join(f"{name}: {path}" for name, path in _places(report).items()))
    say.result(report, "\n\n".join(part for part in parts if part), essence=run)
    refuse_empty(report.stages, run)
    if report.pairs is not None:
        _refuse_no_pairs(report.pairs, run)


def _places(report: "RunReport") -> dict[str, str | Path]:
    """What a newcomer would open."""
    found = {
        "contact sheet": report.contact_sheet,
        "dataset": report.pairs.path if report.pairs else None,
        "trained": report.train.adapter if report.train else None,
    }
    return {name: path for name, path in found.items() if path is not None}


def counts(say: Output, verb: str, found: Mapping[str, int]) -> None:
    """One line on stderr: "dropped: images 12, edits 4"."""
    some = {name: count for name, count in found.items() if count}
    say.hint(f"{verb}: {counted(some) or 'nothing'}")


def trained_in_rounds(say: Output, report: "RoundsReport") -> None:
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
    text = f"{table(header, rows)}\n\neach round: {plan_text(each)}"
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
    again, least = tera(found.recomputed_per_picture), found.seconds_at_peak
    rows = [
        ["trained", f"{found.trained:,} of {found.parameters:,} parameters"],
        ["data", f"{found.prompts:,} prompts"],
        ["rounds", f"{found.rounds:,}, {found.pictures_per_round:,} pictures each"],
        ["pictures", f"{found.pictures:,} drawn, {found.scored:,} scored by each reward"],
        ["denoising steps", f"{found.denoising_steps:,}, of which {found.taught_steps:,} teach a use"],
        ["uses of a picture", f"{found.uses:,}"],
        ["optimiser steps", f"at most {found.updates:,} in all"],
        ["forward passes", f"{found.batch_size:,} pictures each"],
        ["FLOPs per picture", listed(flops, tera)],
        ["FLOPs in all", f"{tera(found.flops_of_training)}, without VAE and rewards"],
        ["computed again to save memory", f"{again} per use of a picture"],
        ["time", "unknown on this device" if least is None else at_least(least)],
        ["memory, estimated", f"{size(found.memory_total)} ({listed(memory, size)})"],
    ]
    text = "\n".join(f"{name}: {told}" for name, told in rows)
    say.result(found, f"{found.method} on {found.model}\n{text}", essence=str(found.memory_total))
