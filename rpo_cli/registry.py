"""Names a user can type, and where the thing is: plain dicts of name → "module:attribute".

Third parties add to a kind through the entry-point group `rpo.<kind>` (e.g. `rpo.rewards`).
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any

from rpo_cli.errors import UsageError, nearest
from rpo_cli.protocols import Weights

_DIFFUSERS = "rpo_cli.backends.generator:DiffusersGenerator"
generators = {  # several names of one class differ in their numbers: see recipes/generators.py
    "diffusers": _DIFFUSERS,
    "sdxl": _DIFFUSERS,
    "sd3": _DIFFUSERS,
    "flux": _DIFFUSERS,
    "flux-schnell": _DIFFUSERS,
    "flux2": _DIFFUSERS,
    "flux2-klein": _DIFFUSERS,
    "flux2-klein-base": _DIFFUSERS,
    "turbo": _DIFFUSERS,
    "lcm": _DIFFUSERS,
    "lcm-lora": _DIFFUSERS,
    "lightning": _DIFFUSERS,
    "one-step": "rpo_cli.backends.generator:OneStepGenerator",
}
renoisers = {"diffusers": "rpo_cli.backends.generator:DiffusersRenoiser"}
critics = {
    "transformers": "rpo_cli.backends.critic:TransformersCritic",
    "openai": "rpo_cli.backends.served:ServedCritic",
    "vllm-server": "rpo_cli.backends.vllm_server:VllmServerCritic",
    "vllm": "rpo_cli.backends.vllm_offline:VllmCritic",
}
editors = {
    "instruct-pix2pix": "rpo_cli.backends.editor:InstructPix2PixEditor",
    "sdxl-instruct-pix2pix": "rpo_cli.backends.editor:XlInstructPix2PixEditor",
    "cosxl-edit": "rpo_cli.backends.editor:XlInstructPix2PixEditor",
    "ultra-edit": "rpo_cli.backends.ultra_edit:UltraEditEditor",
    "controlnet": "rpo_cli.backends.controlnet:ControlNetEditor",
    "controlnet-img2img": "rpo_cli.backends.controlnet:ControlNetImg2ImgEditor",
    "flux2": "rpo_cli.backends.flow_editors:Flux2Editor",
    "flux2-klein": "rpo_cli.backends.flow_editors:Flux2Editor",
    "flux2-klein-base": "rpo_cli.backends.flow_editors:Flux2Editor",
    "flux-kontext": "rpo_cli.backends.flow_editors:FluxKontextEditor",
    "qwen-image-edit": "rpo_cli.backends.flow_editors:QwenImageEditor",
    "qwen-image-edit-plus": "rpo_cli.backends.flow_editors:QwenImageEditor",
    "openai": "rpo_cli.backends.http_editor:HttpEditor",
}
rewards = {
    "clip": "rpo_cli.backends.rewards:ClipReward",
    "clipscore": "rpo_cli.backends.clip_rewards:ClipScore",
    "pickscore": "rpo_cli.backends.clip_rewards:PickScore",
    "hpsv2.1": "rpo_cli.backends.clip_rewards:HpsReward",
    "imagereward": "rpo_cli.backends.image_reward:ImageReward",
    "aesthetic": "rpo_cli.backends.clip_rewards:AestheticReward",
    "hpsv3": "rpo_cli.backends.hpsv3:HpsV3Reward",
    "vqascore": "rpo_cli.backends.rewards:VqaScore",
    "judge": "rpo_cli.backends.judge:PairJudge",
}
# what a reward asks is part of its rows' key
reward_templates = {"vqascore": "reward/vqascore", "judge": "reward/judge"}
PAIRWISE = frozenset({"judge"})  # rewards that compare a picture with another of its prompt
APART = frozenset({"hpsv3"})  # rewards in a process of their own, which score.python may run
families = {
    "sd1": "rpo_cli.train.families.unet:StableDiffusion1",
    "sdxl": "rpo_cli.train.families.unet:StableDiffusionXL",
    "sd3": "rpo_cli.train.families.flow:StableDiffusion3",
    "flux": "rpo_cli.train.families.flow:Flux",
}
objectives = {
    "dpo": "rpo_cli.train.objectives.presets:DPO",
    "sft": "rpo_cli.train.objectives.presets:SFT",
    "ipo": "rpo_cli.train.objectives.presets:IPO",
    "slic": "rpo_cli.train.objectives.presets:SLIC",
    "f-dpo": "rpo_cli.train.objectives.presets:F_DPO",
    "mapo": "rpo_cli.train.objectives.presets:MAPO",
    "rainbow": "rpo_cli.train.objectives.presets:RAINBOW",
    "smpo": "rpo_cli.train.objectives.presets:SMPO",
    "npo": "rpo_cli.train.objectives.presets:NPO",
    "mallows": "rpo_cli.train.objectives.presets:MALLOWS",
    "dense": "rpo_cli.train.objectives.presets:DENSE",
    "ir-dro": "rpo_cli.train.objectives.grouped:IR_DRO",
    "kto": "rpo_cli.train.objectives.grouped:KTO",
    "relative": "rpo_cli.train.objectives.grouped:RELATIVE",
    "plackett-luce": "rpo_cli.train.objectives.grouped:PLACKETT_LUCE",
    "rank-dpo": "rpo_cli.train.objectives.grouped:RANK_DPO",
    "dspo": "rpo_cli.train.objectives.presets:DSPO",
    "ppod": "rpo_cli.train.objectives.presets:PPOD",
    "ppod-clamped": "rpo_cli.train.objectives.presets:PPOD_CLAMPED",
    "spin": "rpo_cli.train.objectives.presets:SPIN",
    "sapo": "rpo_cli.train.objectives.presets:SAPO",
}
online_objectives = {  # of trajectories that the policy samples; the others are of denoising errors
    "d3po": "rpo_cli.train.objectives.online:D3PO",
    "ddpo": "rpo_cli.train.objectives.online:DDPO",
    "dpok": "rpo_cli.train.objectives.online:DPOK",
    "ppod-online": "rpo_cli.train.objectives.online:PPOD_ONLINE",
    "score-as-action": "rpo_cli.train.objectives.online:SCORE_AS_ACTION",
}
engines = {
    "local": "rpo_cli.engines.local:LocalEngine",
    "ray": "rpo_cli.engines.ray:RayEngine",
}
ENGINE_NEEDS = {"ray": "ray"}  # engine → the package of its extra, which has the same name
importers = {
    "rpo": "rpo_cli.exchange.importers.rpo:open_rpo",
    "pickapic": "rpo_cli.exchange.importers.parquet:open_pickapic",
    "richhf": "rpo_cli.exchange.importers.richhf:open_richhf",
    "hpdv2": "rpo_cli.exchange.importers.rankings:open_hpdv2",
    "imagereward": "rpo_cli.exchange.importers.rankings:open_imagereward",
    "open-image-preferences": "rpo_cli.exchange.importers.parquet:open_image_preferences",
    "imagefolder": "rpo_cli.exchange.importers.folders:open_imagefolder",
    "folders": "rpo_cli.exchange.importers.folders:open_folders",
    "sidecar": "rpo_cli.exchange.importers.sidecar:open_sidecar",
    "classes": "rpo_cli.exchange.importers.sidecar:open_classes",
    "save-to-disk": "rpo_cli.exchange.importers.arrow:open_saved",
    "jsonl": "rpo_cli.exchange.importers.folders:open_jsonl",
    "table": "rpo_cli.exchange.importers.folders:open_table_of_paths",
    "webdataset": "rpo_cli.exchange.importers.webdataset:open_webdataset",
    "parquet": "rpo_cli.exchange.importers.parquet:open_table",
}
exporters = {
    "pickapic": "rpo_cli.exchange.exporters.archives:export_pickapic",
    "imagefolder": "rpo_cli.exchange.exporters.folders:export_imagefolder",
    "webdataset": "rpo_cli.exchange.exporters.archives:export_webdataset",
    "kto": "rpo_cli.exchange.exporters.folders:export_kto",
    "simpletuner": "rpo_cli.exchange.exporters.folders:export_simpletuner",
    "trl": "rpo_cli.exchange.exporters.archives:export_trl",
    "jsonl": "rpo_cli.exchange.exporters.folders:export_jsonl",
}
presets = {
    "shapes": "rpo_cli.shapes.preset:settings",
    "paper": "rpo_cli.presets.paper:settings",
    "sd15": "rpo_cli.presets.sd15:settings",
    "sdxl": "rpo_cli.presets.sdxl:settings",
    "sd3.5": "rpo_cli.presets.sd35:settings",
    "gpu": "rpo_cli.recipes.critics:gpu_preset",
    "none": "rpo_cli.presets:none",
}
# short names that --critic and the model of a reward take; `rpo list critics` shows them
critic_models = {
    "qwen3-vl-8b": "rpo_cli.recipes.critics:QWEN3_VL_8B",
    "qwen2.5-vl-7b": "rpo_cli.recipes.critics:QWEN25_VL_7B",
    "internvl3.5-8b": "rpo_cli.recipes.critics:INTERNVL35_8B",
    "unified-reward-8b": "rpo_cli.recipes.critics:UNIFIED_REWARD_8B",
    "llava-critic-7b": "rpo_cli.recipes.critics:LLAVA_CRITIC_7B",
}
measures = {"shapes-oracle": "rpo_cli.shapes.measure:shapes_oracle"}

KINDS: dict[str, dict[str, str]] = {
    "generators": generators,
    "renoisers": renoisers,
    "critics": critics,
    "editors": editors,
    "rewards": rewards,
    "families": families,
    "objectives": objectives | online_objectives,
    "engines": engines,
    "importers": importers,
    "exporters": exporters,
    "presets": presets,
    "measures": measures,
    "stages": {},  # third parties'; ours are in `line/steps.py`, in their order
}


def names(kind: str) -> dict[str, str]:
    """All names of a kind, ours and third parties', sorted."""
    return dict(sorted({**_theirs(kind), **KINDS[kind]}.items()))


@cache
def _points(kind: str) -> tuple[EntryPoint, ...]:
    """Third parties' entry points; every installed package is looked at, so once a process."""
    return tuple(entry_points(group=f"rpo.{kind}"))


def _theirs(kind: str) -> dict[str, str]:
    return {point.name: point.value for point in _points(kind)}


def code_of(kind: str, name: str) -> dict[str, str]:
    """Whose code serves a name, where it is not ours: distribution, version and place; {} for our own.

    It belongs into the key of every row that this code makes: the same settings make other rows there.
    """
    point = next((point for point in reversed(_points(kind)) if point.name == name), None)
    if name in KINDS[kind] or point is None:
        return {}
    package = point.dist
    return {
        "name": name,
        "distribution": package.name if package else "unknown",
        "version": package.version if package else "unknown",
        "place": point.value,
    }


def build(kind: str, name: str, weights: Weights, /, **options: Any) -> Any:
    """A backend of that name, not loaded yet."""
    return constructed(load(kind, name), weights, **options)


def constructed(backend: Callable[..., Any], weights: Weights, /, **options: Any) -> Any:
    """A third party's class may be of before `Weights`: a parameter for each of its fields."""
    if "weights" in signature(backend).parameters:
        return backend(weights, **options)
    rest = asdict(weights)
    return backend(rest.pop("model"), **rest, **options)


def load(kind: str, name: str) -> Any:
    """The class or function behind a name; an unknown name is a usage error with the nearest one."""
    module, _, attribute = locate(kind, name).partition(":")
    return getattr(import_module(module), attribute)


def locate(kind: str, name: str) -> str:
    """ "module:attribute" of a name; imports nothing."""
    table = names(kind)
    if name not in table:
        raise UsageError(
            f"'{name}' is not one of the {kind}: {', '.join(table)}{nearest(name, list(table))}",
            f"rpo list {kind}",
        )
    return table[name]
