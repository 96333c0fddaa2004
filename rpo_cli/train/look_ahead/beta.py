"""`--suggest-beta`: the reference's errors on a few batches, and the β that fits them."""

from math import prod

from rpo_cli.compute import set_threads
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer
from rpo_cli.train.batch import assemble, item_errors
from rpo_cli.train.draws import training_draw
from rpo_cli.train.families import open_family
from rpo_cli.train.objectives.errors import Errors, join
from rpo_cli.train.objectives.objective import SALESFORCE, Objective
from rpo_cli.train.policy import build_policy, weight_dtype
from rpo_cli.train.prepare import Inputs, prepare
from rpo_cli.train.scale import BetaAdvice, suggest_beta
from rpo_cli.train.texts import load_texts

DRAWS = 64


def advise(inputs: Inputs, objective: Objective, threads: int, observer: Observer) -> BetaAdvice:
    """Measure the untrained model on the first draws of the training; nothing is trained or written.

    Raises:
        UsageError: the objective's β is no scale of denoising errors.
    """
    if objective.beta_unit != SALESFORCE:
        raise UsageError(
            f"--suggest-beta: the beta of {objective.name} is another thing: {objective.beta_unit}",
            "leave --beta out to use the method's own",
        )
    set_threads(threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    job = prepare(inputs, family, observer)
    denoiser = family.load_denoiser(weight_dtype(job.settings))
    texts = load_texts(family, job.settings, inputs.device)
    policy = build_policy(denoiser, job.settings, family.lora_targets, inputs.seed, inputs.device, texts)
    draws = [training_draw(job.draws, 0, place, DRAWS) for place in range(DRAWS)]
    width, size = len(job.pairs[0].pictures), job.settings.batch_size

    def part(start: int) -> Errors:
        batch = assemble(draws[start : start + size], job.pairs, job.cache, job.schedule, job.device)
        return item_errors(policy, family, batch, with_reference=False, grad=False, width=width)

    found = join([part(start) for start in range(0, DRAWS, size)])
    return suggest_beta(objective, found, prod(job.cache.shape))
