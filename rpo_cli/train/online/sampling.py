"""What a policy can be sampled with: its family, the denoising steps, the size of latents and of passes."""

from diffusers import DDIMScheduler

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.families import Family
from rpo_cli.train.families.folder import Folder
from rpo_cli.train.online.objective import OnlineObjective
from rpo_cli.train.online.trajectory import Grid


def require_family(family: Family, objective: OnlineObjective) -> None:
    """Refuse what stochastic DDIM steps cannot draw.

    Raises:
        UsageError: a flow model.
    """
    family.check()
    if family.component != "unet":
        raise UsageError(
            f"{objective.name} samples with stochastic DDIM, for SD 1.x, 2.x and XL only; "
            f"a {family.pipeline} cannot be trained with it yet",
            "use a method that learns from pairs, e.g. --method dpo",
        )


def grid_of(model: str, revision: str | None, online: OnlineSettings) -> Grid:
    """The denoising steps.

    Raises:
        UsageError: more steps teach than have a density, or none has.
    """
    assert online.steps is not None
    config = Folder(model, revision).config("scheduler", DDIMScheduler)
    grid = Grid.of(config, online.steps, online.eta)
    random = len(grid.random_steps)
    if random < max(1, online.taught_steps or 0):
        raise UsageError(
            f"online.steps = {online.steps}: only {random} of these steps are random and can teach",
            "give more online.steps, or fewer online.taught_steps",
        )
    return grid


def latent_shape(family: Family, resolution: int | None) -> tuple[int, int, int]:
    """(C, h, w) of what is sampled.

    Raises:
        UsageError: the model cannot work at this resolution.
    """
    (channels, side, _), own = family.latent_size()
    if resolution is not None and resolution % family.grain():
        raise UsageError(
            f"a resolution of {resolution} pixels is no multiple of {family.grain()}, as this model needs",
            f"e.g. train.resolution = {max(1, round(resolution / family.grain())) * family.grain()}",
        )
    side = side * (resolution or own) // own
    return (channels, side, side)


def drawn_in_round(online: OnlineSettings, prompts: int) -> int:
    """Pictures of a round."""
    return min(online.prompts_per_round, prompts) * online.images_per_prompt


def rows_of_pass(settings: TrainSettings, objective: OnlineObjective, drawn: int) -> int:
    """Pictures of a forward pass, in sampling and in learning; even for pairs."""
    rows = min(settings.batch_size, drawn)
    return rows - rows % objective.width
