"""train: the run's dataset → an adapter or a UNet in RUN/train/<name>."""

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import built
from rpo_cli.exchange.dataset import sweep
from rpo_cli.line.context import Line
from rpo_cli.line.work import required, reward_models
from rpo_cli.train.run import Embedder, TrainReport
from rpo_cli.train.run import train as train_model

__all__ = ["TrainReport", "train"]


def train(line: Line) -> TrainReport:
    """Fine-tune on the run's dataset; a finished training with the same settings returns at once.

    Raises:
        UsageError: the run has no dataset yet.
    """
    settings, generate, run = own_settings(line), line.settings.generate, line.settings.run
    model = settings.model or required(generate.generator, "train.model")
    revision = generate.revision if settings.model is None else None
    dataset = line.store.path("dataset")
    card = dataset / "README.md"
    if not card.is_file():
        raise UsageError(f"{dataset}: no dataset yet", f"rpo build-pairs {line.store.url}")
    with line.store.lock("build-pairs"):  # a rebuild that was killed may have left files of two builds
        sweep(dataset, set(built(card.read_text(encoding="utf-8"))[1]))
    identity = line.identity(model, revision)
    with line.store.lock(f"train-{settings.name}"):
        line.record()
        return train_model(
            settings,
            dataset=dataset,
            model=model,
            revision=identity.commit,
            model_identity=identity.revision,
            out=line.store.path("train", settings.name),
            cache=line.store.path("cache"),
            seed=run.seed if settings.seed is None else settings.seed,
            device=run.device,
            threads=run.threads,
            observer=line.observer,
            embedder=_embedder(line, settings),
        )


def own_settings(line: Line) -> TrainSettings:
    """The settings of the training, checked against its method.

    The β of a preset is made for logits of DPO's kind; a method with other logits has its own.

    Raises:
        SettingsError: every setting that contradicts the method.
    """
    from rpo_cli.train.compose import composed
    from rpo_cli.train.objective import SALESFORCE

    settings = line.settings.train
    objective = composed(settings)
    like_dpo = objective.beta_unit == SALESFORCE and objective.reference_mix == 1
    if line.resolved.origins["train.beta"].startswith("preset ") and not like_dpo:
        return settings.model_copy(update={"beta": None})
    return settings


def _embedder(line: Line, settings: TrainSettings) -> Embedder | None:
    """The CLIP model that the settings or the rewards name, for a method that needs one."""
    from rpo_cli.train.compose import composed

    model = settings.embedder or dict(reward_models(line)).get("clip")
    if model is None or not composed(settings).needs_embedder:
        return None
    identity = line.identity(model)
    return Embedder(model, identity.commit, identity.revision)
