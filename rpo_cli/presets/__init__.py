"""Presets that are mere settings, one a file. The embedded world has its own: `shapes/preset.py`."""

from collections.abc import Mapping
from typing import Any

from rpo_cli.presets.kinds import Chosen
from rpo_cli.presets.paper import PAPER
from rpo_cli.presets.sd15 import SD15
from rpo_cli.presets.sd35 import SD35
from rpo_cli.presets.sdxl import SDXL

# preset → its settings with their origin; of another one that is ours, whose all of them are
TABLES = {"paper": PAPER, "sd15": SD15, "sdxl": SDXL, "sd3.5": SD35}
WHOSE = {"shapes": "ours, for the embedded models", "gpu": "ours, from the model's documentation"}


def explained(preset: str, settings: Mapping[str, Mapping[str, Any]]) -> list[Chosen]:
    """Every setting of a preset with its origin, as far as the preset says it."""
    known = {item.name: item for item in TABLES.get(preset, ())}
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    whose = WHOSE.get(preset, "the preset's own")
    return [known.get(name, Chosen(name, value, whose)) for name, value in flat.items()]


def none() -> dict[str, Any]:
    """No settings at all: whoever runs a command names its models; numbers are theirs or the method's."""
    return {}
