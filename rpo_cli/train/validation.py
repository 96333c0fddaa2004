"""The numbers of a step, measured on held-out items at draws that never change."""

from dataclasses import replace

from rpo_cli.protocols import Observer
from rpo_cli.train.distributed.process_group import gather_errors
from rpo_cli.train.draws import validation_draw
from rpo_cli.train.gradients import forward
from rpo_cli.train.metrics import Numbers, summarise
from rpo_cli.train.objectives.errors import Errors, join
from rpo_cli.train.step import Job, State, in_memory

VALIDATION_ITEMS = 128  # fixed draws; small splits are drawn several times, large ones in part


def validation_errors(job: Job, state: State, observer: Observer, *, with_reference: bool) -> Errors:
    """Errors on the held-out items, at the same draws every time; the reference's too when asked."""
    fixed = replace(job.draws, pairs=len(job.held_out))
    group = job.objective.group_size
    count = max(1, VALIDATION_ITEMS // group) * group
    counts = [len(part) for part in job.world.shares(count)]
    spread = min(counts) > 0
    draws = [validation_draw(fixed, item) for item in (job.world.share(count) if spread else range(count))]

    def whole() -> Errors:
        chunks = [
            draws[start : start + state.batch_size] for start in range(0, len(draws), state.batch_size)
        ]
        found = [
            forward(job, state.policy, job.held_out, chunk, grad=False, with_reference=with_reference)
            for chunk in chunks
        ]
        return join(found)

    errors = in_memory(whole, state, observer)
    return gather_errors(job.world, errors, counts) if spread else errors


def validate(job: Job, state: State, reference: Errors, observer: Observer) -> Numbers:
    """Numbers of the policy on the held-out items, beside the reference's errors at the same draws."""
    again = job.objective.needs_cross  # its cross term needs both predictions at once
    errors = validation_errors(job, state, observer, with_reference=again)
    return summarise(replace(errors, reference=reference.reference), job.objective, job.beta)
