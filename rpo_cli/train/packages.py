"""Packages that only some settings need: looked for at the door, imported where they are used."""

from importlib.util import find_spec

from rpo_cli import installing
from rpo_cli.config import TrainSettings
from rpo_cli.errors import MissingDependency

EIGHT_BIT = "bitsandbytes"


def require_packages(settings: TrainSettings) -> None:
    """Refuse settings whose packages are not there; imports none.

    Raises:
        MissingDependency: all that are missing.
    """
    wanted: dict[str, str] = {
        name: f"train.loggers = {name}" for name in settings.loggers
    }  # a logger is its package
    if settings.optimiser == "adamw-8bit":
        wanted[EIGHT_BIT] = "train.optimiser = adamw-8bit"
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        why = "; ".join(f"{wanted[name]} needs {name}" for name in missing)
        raise MissingDependency(f"not installed: {why}", installing.package(*missing))
