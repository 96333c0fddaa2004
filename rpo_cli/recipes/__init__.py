"""How models of each kind are called: which pipeline classes a name serves, what they take, whose numbers.

Data only, so that the door can refuse a wrong setting and `rpo list` can tell licence and memory before
anything heavy loads. A number of steps or a guidance stands here only with the place that recommends it;
memory only where its source says so. `tests/test_recipes.py` holds every entry against diffusers itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rpo_cli import registry
from rpo_cli.recipes.editors import EDITORS
from rpo_cli.recipes.generators import GENERATORS
from rpo_cli.recipes.kinds import KLEIN, XL_PIX2PIX, Recipe

RECIPES: dict[str, dict[str, Recipe]] = {"editors": EDITORS, "generators": GENERATORS}
# of a name that a third party added: what settings were before there were recipes
_UNKNOWN = {
    "editors": Recipe("", (), 50, 7.5, "", image_guidance=1.5, takes=("scheduler",)),
    "generators": Recipe("", (), 50, 7.5, "", takes=("scheduler", "negative_prompt")),
}


def recipe(kind: str, name: str) -> Recipe:
    """The recipe of an editor or generator; of a third party's its own, or a general one."""
    if name in RECIPES[kind]:
        return RECIPES[kind][name]
    own: Recipe | None = registry.entry(kind, name).recipe
    return own or _UNKNOWN[kind]


def serving(kind: str, index: Mapping[str, Any], ref: str) -> str | None:
    """The name that serves a model by its hub id, else by its model_index.json; None: none does.

    Args:
        index: model_index.json, and under "denoiser" the configuration of its UNet or transformer.
    """
    table = RECIPES[kind]
    known = {model.ref.lower(): name for name, found in table.items() for model in found.models}
    pipeline = index.get("_class_name")
    named = known.get(ref.lower())
    if named is not None and pipeline in table[named].pipelines:
        return named
    candidates = [name for name, found in table.items() if pipeline in found.pipelines]
    return next((name for name in _distinguished(pipeline, index, candidates)), None)


def _distinguished(pipeline: Any, index: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Of the names that share a pipeline class those that the folder's own files speak for."""
    if pipeline == KLEIN:
        distilled = bool(index.get("is_distilled", False))
        return [name for name in names if name.endswith("-base") != distilled]
    if pipeline == XL_PIX2PIX:  # its flag is in no file; only CosXL is trained on an EDM schedule
        by_edm = "EDMEulerScheduler" in (index.get("scheduler") or ())
        return [name for name in names if (name == "cosxl-edit") == by_edm]
    if pipeline == "FluxPipeline":
        guided = index.get("denoiser", {}).get("guidance_embeds", True)
        return [name for name in names if (name == "flux") == bool(guided)]
    return list(names)
