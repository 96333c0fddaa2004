"""Names a user can type, and where the thing is: one `Entry` a name.

Third parties add to a kind through the entry-point group `rpo.<kind>` (e.g. `rpo.rewards`).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import TYPE_CHECKING, Any

from rpo_cli.errors import RpoError, UsageError, nearest

if TYPE_CHECKING:
    from rpo_cli.protocols import Weights


@dataclass(frozen=True)
class Entry:
    """All that is asked of a name before its code runs; an entry point of a third party may lead to one.

    Attributes:
        target: "module:attribute" of the class, function or value.
        pairwise: a reward that compares a picture with another of its prompt.
        apart: a reward in a process of its own, which `score.python` may run.
        template: what a reward asks a VLM; it is part of its rows' key.
        online: an objective of trajectories that the policy samples; others are of denoising errors.
        needs: the package of an engine's extra, which has the same name.
        recipe: a third party's own numbers: `recipes.kinds.Recipe` of a generator or editor,
            `recipes.rewards.Scorer` of a reward.
    """

    target: str
    pairwise: bool = False
    apart: bool = False
    template: str | None = None
    online: bool = False
    needs: str | None = None
    recipe: Any = None

    def __str__(self) -> str:
        return self.target


_DIFFUSERS = Entry("rpo_cli.backends.generator:DiffusersGenerator")
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
    "one-step": Entry("rpo_cli.backends.generator:OneStepGenerator"),
}
renoisers = {"diffusers": Entry("rpo_cli.backends.generator:DiffusersRenoiser")}
critics = {
    "transformers": Entry("rpo_cli.backends.critic:TransformersCritic"),
    "openai": Entry("rpo_cli.backends.served:ServedCritic"),
    "vllm-server": Entry("rpo_cli.backends.vllm_server:VllmServerCritic"),
    "vllm": Entry("rpo_cli.backends.vllm_offline:VllmCritic"),
}
editors = {
    "instruct-pix2pix": Entry("rpo_cli.backends.editor:InstructPix2PixEditor"),
    "sdxl-instruct-pix2pix": Entry("rpo_cli.backends.editor:XlInstructPix2PixEditor"),
    "cosxl-edit": Entry("rpo_cli.backends.editor:XlInstructPix2PixEditor"),
    "ultra-edit": Entry("rpo_cli.backends.ultra_edit:UltraEditEditor"),
    "controlnet": Entry("rpo_cli.backends.controlnet:ControlNetEditor"),
    "controlnet-img2img": Entry("rpo_cli.backends.controlnet:ControlNetImg2ImgEditor"),
    "flux2": Entry("rpo_cli.backends.flow_editors:Flux2Editor"),
    "flux2-klein": Entry("rpo_cli.backends.flow_editors:Flux2Editor"),
    "flux2-klein-base": Entry("rpo_cli.backends.flow_editors:Flux2Editor"),
    "flux-kontext": Entry("rpo_cli.backends.flow_editors:FluxKontextEditor"),
    "qwen-image-edit": Entry("rpo_cli.backends.flow_editors:QwenImageEditor"),
    "qwen-image-edit-plus": Entry("rpo_cli.backends.flow_editors:QwenImageEditor"),
    "openai": Entry("rpo_cli.backends.http_editor:HttpEditor"),
}
rewards = {
    "clip": Entry("rpo_cli.backends.rewards:ClipReward"),
    "clipscore": Entry("rpo_cli.backends.clip_rewards:ClipScore"),
    "pickscore": Entry("rpo_cli.backends.clip_rewards:PickScore"),
    "hpsv2.1": Entry("rpo_cli.backends.clip_rewards:HpsReward"),
    "imagereward": Entry("rpo_cli.backends.image_reward:ImageReward"),
    "aesthetic": Entry("rpo_cli.backends.clip_rewards:AestheticReward"),
    "hpsv3": Entry("rpo_cli.backends.hpsv3:HpsV3Reward", apart=True),
    "vqascore": Entry("rpo_cli.backends.rewards:VqaScore", template="reward/vqascore"),
    "judge": Entry("rpo_cli.backends.judge:PairJudge", pairwise=True, template="reward/judge"),
}
families = {
    "sd1": Entry("rpo_cli.train.families.unet:StableDiffusion1"),
    "sdxl": Entry("rpo_cli.train.families.unet:StableDiffusionXL"),
    "sd3": Entry("rpo_cli.train.families.flow:StableDiffusion3"),
    "flux": Entry("rpo_cli.train.families.flow:Flux"),
}
objectives = {
    "dpo": Entry("rpo_cli.train.objectives.presets:DPO"),
    "sft": Entry("rpo_cli.train.objectives.presets:SFT"),
    "ipo": Entry("rpo_cli.train.objectives.presets:IPO"),
    "slic": Entry("rpo_cli.train.objectives.presets:SLIC"),
    "f-dpo": Entry("rpo_cli.train.objectives.presets:F_DPO"),
    "mapo": Entry("rpo_cli.train.objectives.presets:MAPO"),
    "rainbow": Entry("rpo_cli.train.objectives.presets:RAINBOW"),
    "smpo": Entry("rpo_cli.train.objectives.presets:SMPO"),
    "npo": Entry("rpo_cli.train.objectives.presets:NPO"),
    "mallows": Entry("rpo_cli.train.objectives.presets:MALLOWS"),
    "dense": Entry("rpo_cli.train.objectives.presets:DENSE"),
    "ir-dro": Entry("rpo_cli.train.objectives.grouped:IR_DRO"),
    "kto": Entry("rpo_cli.train.objectives.grouped:KTO"),
    "relative": Entry("rpo_cli.train.objectives.grouped:RELATIVE"),
    "plackett-luce": Entry("rpo_cli.train.objectives.grouped:PLACKETT_LUCE"),
    "rank-dpo": Entry("rpo_cli.train.objectives.grouped:RANK_DPO"),
    "dspo": Entry("rpo_cli.train.objectives.presets:DSPO"),
    "ppod": Entry("rpo_cli.train.objectives.presets:PPOD"),
    "ppod-clamped": Entry("rpo_cli.train.objectives.presets:PPOD_CLAMPED"),
    "spin": Entry("rpo_cli.train.objectives.presets:SPIN"),
    "sapo": Entry("rpo_cli.train.objectives.presets:SAPO"),
}
online_objectives = {  # of trajectories that the policy samples; the others are of denoising errors
    "d3po": Entry("rpo_cli.train.objectives.online:D3PO", online=True),
    "ddpo": Entry("rpo_cli.train.objectives.online:DDPO", online=True),
    "dpok": Entry("rpo_cli.train.objectives.online:DPOK", online=True),
    "ppod-online": Entry("rpo_cli.train.objectives.online:PPOD_ONLINE", online=True),
    "score-as-action": Entry("rpo_cli.train.objectives.online:SCORE_AS_ACTION", online=True),
}
engines = {
    "local": Entry("rpo_cli.engines.workers:LocalEngine"),
    "ray": Entry("rpo_cli.engines.ray:RayEngine", needs="ray"),
}
importers = {
    "rpo": Entry("rpo_cli.exchange.importers.rpo:open_rpo"),
    "pickapic": Entry("rpo_cli.exchange.importers.parquet:open_pickapic"),
    "richhf": Entry("rpo_cli.exchange.importers.richhf:open_richhf"),
    "hpdv2": Entry("rpo_cli.exchange.importers.rankings:open_hpdv2"),
    "imagereward": Entry("rpo_cli.exchange.importers.rankings:open_imagereward"),
    "open-image-preferences": Entry("rpo_cli.exchange.importers.parquet:open_image_preferences"),
    "imagefolder": Entry("rpo_cli.exchange.importers.folders:open_imagefolder"),
    "folders": Entry("rpo_cli.exchange.importers.folders:open_folders"),
    "sidecar": Entry("rpo_cli.exchange.importers.sidecar:open_sidecar"),
    "classes": Entry("rpo_cli.exchange.importers.sidecar:open_classes"),
    "save-to-disk": Entry("rpo_cli.exchange.importers.arrow:open_saved"),
    "jsonl": Entry("rpo_cli.exchange.importers.folders:open_jsonl"),
    "table": Entry("rpo_cli.exchange.importers.folders:open_table_of_paths"),
    "webdataset": Entry("rpo_cli.exchange.importers.webdataset:open_webdataset"),
    "parquet": Entry("rpo_cli.exchange.importers.parquet:open_table"),
}
exporters = {
    "pickapic": Entry("rpo_cli.exchange.exporters.archives:export_pickapic"),
    "imagefolder": Entry("rpo_cli.exchange.exporters.folders:export_imagefolder"),
    "webdataset": Entry("rpo_cli.exchange.exporters.archives:export_webdataset"),
    "kto": Entry("rpo_cli.exchange.exporters.folders:export_kto"),
    "simpletuner": Entry("rpo_cli.exchange.exporters.folders:export_simpletuner"),
    "trl": Entry("rpo_cli.exchange.exporters.archives:export_trl"),
    "jsonl": Entry("rpo_cli.exchange.exporters.folders:export_jsonl"),
}
presets = {
    "shapes": Entry("rpo_cli.shapes.preset:settings"),
    "paper": Entry("rpo_cli.presets.paper:settings"),
    "sd15": Entry("rpo_cli.presets.sd15:settings"),
    "sdxl": Entry("rpo_cli.presets.sdxl:settings"),
    "sd3.5": Entry("rpo_cli.presets.sd35:settings"),
    "gpu": Entry("rpo_cli.recipes.critics:gpu_preset"),
    "none": Entry("rpo_cli.presets:none"),
}
# short names that --critic and the model of a reward take; `rpo list critics` shows them
critic_models = {
    "qwen3-vl-8b": "rpo_cli.recipes.critics:QWEN3_VL_8B",
    "qwen2.5-vl-7b": "rpo_cli.recipes.critics:QWEN25_VL_7B",
    "internvl3.5-8b": "rpo_cli.recipes.critics:INTERNVL35_8B",
    "unified-reward-8b": "rpo_cli.recipes.critics:UNIFIED_REWARD_8B",
    "llava-critic-7b": "rpo_cli.recipes.critics:LLAVA_CRITIC_7B",
}
measures = {"shapes-oracle": Entry("rpo_cli.shapes.measure:shapes_oracle")}

KINDS: dict[str, dict[str, Entry]] = {
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
    """Every name of a kind, ours and third parties', sorted → where it is; imports nothing."""
    ours = {name: entry.target for name, entry in KINDS[kind].items()}
    return dict(sorted({**{point.name: point.value for point in _points()[kind]}, **ours}.items()))


@cache
def _points() -> dict[str, tuple[EntryPoint, ...]]:
    """Kind → third parties' entry points; every installed package is looked at, so once a process."""
    found = entry_points()
    return {kind: tuple(found.select(group=f"rpo.{kind}")) for kind in KINDS}


def _point(kind: str, name: str) -> EntryPoint | None:
    """A third party's entry point of a name that is not ours.

    Raises:
        UsageError: two packages have that name.
    """
    found = [point for point in _points()[kind] if point.name == name and name not in KINDS[kind]]
    if len(found) > 1:
        raise UsageError(
            f"'{name}' is one of the {kind} of {' and of '.join(map(_package, found))}",
            "uninstall one of them: which is meant, a name alone does not say",
        )
    return found[0] if found else None


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version} ({point.value})" if point.dist else point.value


def unused() -> list[str]:
    """Of each name that a third party has taken from ours: that ours is meant."""
    return [
        f"'{point.name}' of {_package(point)} is not used: it is one of rpo's own {kind}"
        for kind, ours in KINDS.items()
        for point in _points()[kind]
        if point.name in ours
    ]


def code_of(kind: str, name: str) -> dict[str, str]:
    """Whose code serves a name, where it is not ours: distribution, version and place; {} for our own.

    It belongs into the key of every row that this code makes: the same settings make other rows there.
    """
    point = _point(kind, name)
    if point is None:
        return {}
    package = point.dist
    return {
        "name": name,
        "distribution": package.name if package else "unknown",
        "version": package.version if package else "unknown",
        "place": point.value,
    }


def entry(kind: str, name: str) -> Entry:
    """What is known of a name. Of a third party's its module is imported, and may hold an `Entry`.

    Raises:
        UsageError: no such name, with the nearest one; or one of two packages.
        RpoError: a third party's module cannot be imported.
    """
    place = locate(kind, name)
    if name in KINDS[kind]:
        return KINDS[kind][name]
    found = _attribute(kind, name, place)
    return found if isinstance(found, Entry) else Entry(place)


def _attribute(kind: str, name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    if name in KINDS[kind]:
        return getattr(import_module(module), attribute)
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        code = code_of(kind, name)
        raise RpoError(
            f"'{name}' of the {kind} cannot be imported from {place}: {error}",
            f"mend or uninstall its package, {code['distribution']} {code['version']}",
        ) from error


def build(kind: str, name: str, weights: "Weights", /, **options: Any) -> Any:
    """A backend of that name, not loaded yet."""
    return constructed(load(kind, name), weights, **options)


def constructed(backend: Callable[..., Any], weights: "Weights", /, **options: Any) -> Any:
    """A third party's class may be of before `Weights`: a parameter for each of its fields."""
    if "weights" in signature(backend).parameters:
        return backend(weights, **options)
    rest = asdict(weights)
    return backend(rest.pop("model"), **rest, **options)


def load(kind: str, name: str) -> Any:
    """The class or function behind a name.

    Raises:
        UsageError, RpoError: as `entry`.
    """
    return _attribute(kind, name, entry(kind, name).target)


def locate(kind: str, name: str) -> str:
    """ "module:attribute" of a name; imports nothing.

    Raises:
        UsageError: no such name, with the nearest one; or one of two packages.
    """
    table = names(kind)
    if name not in table:
        raise UsageError(
            f"'{name}' is not one of the {kind}: {', '.join(table)}{nearest(name, list(table))}",
            f"rpo list {kind}",
        )
    _point(kind, name)
    return table[name]
