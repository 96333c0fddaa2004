"""Numbers of a training that nobody gave: of its model's family and its method (`recipes/training.py`)."""

from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.line.online import model_of
from rpo_cli.line.session import Line
from rpo_cli.line.work.models import pipeline_index
from rpo_cli.recipes.training import Number, family_of_pipeline, numbers_of

FILLED = ("learning_rate", "caption_dropout", "flip")


def with_numbers(line: Line, settings: TrainSettings) -> TrainSettings:
    """The settings with every number that the family and the method decide.

    A beta that nobody has published for the two is told.
    """
    from rpo_cli.train.compose import composed

    family, objective = family_of(line, settings), composed(settings)
    found = numbers_of(family, settings.method, full=settings.full, beta=objective.default_beta)
    own = {name: getattr(found, name).value for name in FILLED if getattr(settings, name) is None}
    if settings.warmup_steps is None:
        own["warmup_steps"] = int(found.warmup.value * settings.steps)
    if settings.beta is None and settings.beta_from is None and objective.default_beta is not None:
        beta = found.beta or Number(objective.default_beta, "the method's own number", published=False)
        own["beta"] = beta.value
        if family and not beta.published:
            line.say(_unpublished(family, settings.method, beta))
    return settings.model_copy(update=own)


def origins_of(line: Line, settings: TrainSettings) -> dict[str, str]:
    """Setting of `[train]` that `with_numbers` fills → where its number is from."""
    from rpo_cli.train.compose import composed

    family, own = family_of(line, settings), composed(settings).default_beta
    found = numbers_of(family, settings.method, full=settings.full, beta=own)
    sources = {"warmup_steps": found.warmup, "beta": found.beta}
    sources |= {name: getattr(found, name) for name in FILLED}
    where = f"{family or 'family'} × {settings.method}"
    return {name: f"{where} ({number.source})" for name, number in sources.items() if number is not None}


def _unpublished(family: str, method: str, beta: Number) -> str:
    return (
        f"train.beta: nobody has published one for {method} on {family or 'this family'}; {beta.value:g} "
        "is "
        f"{beta.source}: `rpo train RUN --suggest-beta` proposes one from the model's errors"
    )


def family_of(line: Line, settings: TrainSettings) -> str:
    """The name of the model's family; "" where its files tell none, which training itself refuses."""
    try:
        model, revision = model_of(line, settings)
        index = pipeline_index(line.identity(model, revision))
    except RpoError:
        return ""
    return family_of_pipeline(str(index.get("_class_name", "")))
