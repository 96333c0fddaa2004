"""The finished model in the formats that others read: a LoRA in several layouts, or the denoiser's folder.

    adapter/pytorch_lora_weights.safetensors    diffusers' `load_lora_weights`
    adapter/kohya/<name>.safetensors            kohya's trainer, ComfyUI, A1111; when asked for
    adapter/merged/                             the base's denoiser with the LoRA added; when asked for
    unet/ or transformer/                       every weight, after full tuning

Everything is read back and compared before it counts as written (`lora_files.check_lora`).
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.export.lora_files import (
    LORA_FILE,
    check_denoiser,
    check_lora,
    diffusers_weights,
    kohya_metadata,
    kohya_weights,
    load_adapter,
    merged_weights,
)
from rpo_cli.train.export.model_card import NO_PART, card, with_files
from rpo_cli.train.families.family import Family
from rpo_cli.train.journal import Numbers
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.objectives.online import OnlineObjective
from rpo_cli.train.policy import Policy, require_texts
from rpo_cli.train.storage import folder_atomically, remove_temporaries, safetensors_bytes, write_atomically

DENOISER_FILE = "diffusion_pytorch_model.safetensors"
CARD = "README.md"
LAYOUTS = ("kohya", "merged")


def require_layouts(settings: TrainSettings, family: Family) -> None:
    """Refuse layouts that this training cannot have.

    Raises:
        UsageError: a LoRA's layout for full tuning, kohya's for a family that has none, or text encoders
            that are not trained.
    """
    require_texts(settings, family)
    if settings.full and settings.export:
        raise UsageError(
            f"full tuning has no layout '{settings.export[0]}': its result is the whole denoiser",
            "leave out --export, or train a LoRA",
        )
    if "kohya" in settings.export and family.kohya is None:
        raise UsageError(
            f"a {family.pipeline} LoRA has no layout 'kohya'",
            "leave it out: ComfyUI reads the diffusers layout of this family",
        )


def export(
    folder: Path,
    policy: Policy,
    family: Family,
    settings: TrainSettings,
    objective: Objective | OnlineObjective,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Numbers],
) -> None:
    """Write weights and model card; the folder appears whole, after it was read back.

    Args:
        folder: becomes a LoRA folder, or with `settings.full` a denoiser's.
        facts: model, dataset and other inputs, for the card and the file's metadata.
        metrics: by a column title of the card, e.g. "validation, last".
    """
    told = settings.model_dump(mode="json", exclude=set(NO_PART), exclude_none=True)
    metadata = {"rpo": json.dumps({**facts, "settings": told}, sort_keys=True)}
    with folder_atomically(folder) as temporary:
        if settings.full:
            write_denoiser(temporary, policy.unet, policy.unet.state_dict(), metadata)
        else:
            weights = diffusers_weights(policy.unet, family.component, policy.encoders)
            (temporary / LORA_FILE).write_bytes(safetensors_bytes(weights, metadata))
            check_lora(temporary, LORA_FILE, policy.unet, family, policy.encoders)
            for layout in settings.export:
                write_layout(temporary / layout, layout, policy, family, settings)
        text = with_files(card(settings, family, objective, facts, metrics), family, settings.export)
        (temporary / CARD).write_text(text, encoding="utf-8", newline="\n")


def add_layouts(
    folder: Path, layouts: Collection[str], policy: Policy, family: Family, settings: TrainSettings
) -> None:
    """Write more layouts of a LoRA that was exported before; `policy` is a new one on the same model."""
    load_adapter(policy.parameters, family, folder)
    remove_temporaries(folder)
    there = {layout for layout in LAYOUTS if (folder / layout).exists()} | set(layouts)
    text = with_files((folder / CARD).read_text(encoding="utf-8"), family, there)
    write_atomically(
        folder / CARD, text.encode()
    )  # before the layouts: their presence says that all is done
    for layout in layouts:
        with folder_atomically(folder / layout) as temporary:
            write_layout(temporary, layout, policy, family, settings)


def write_layout(
    folder: Path, layout: str, policy: Policy, family: Family, settings: TrainSettings
) -> None:
    """Write one more layout of the adapter into `folder` and read it back."""
    folder.mkdir(exist_ok=True)
    if layout == "merged":
        write_denoiser(folder, policy.unet, merged_weights(policy.unet), {})
        return
    assert family.kohya is not None
    file = f"{settings.name}.safetensors"
    weights = kohya_weights(policy.unet, family.kohya, policy.encoders)
    (folder / file).write_bytes(safetensors_bytes(weights, kohya_metadata(settings.rank)))
    check_lora(folder, file, policy.unet, family, policy.encoders)


def write_denoiser(
    folder: Path, denoiser: Any, weights: dict[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """A folder that `from_pretrained` of the denoiser's class reads."""
    (folder / "config.json").write_text(portable_config(denoiser), encoding="utf-8")
    (folder / DENOISER_FILE).write_bytes(safetensors_bytes(weights, {**metadata, "format": "pt"}))
    check_denoiser(folder, weights, denoiser)


def portable_config(denoiser: Any) -> str:
    """config.json of a denoiser without the folder it was loaded from."""
    config = json.loads(denoiser.to_json_string())
    config.pop("_name_or_path", None)
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def portable_name(model: str) -> str:
    """A hub id as it is; of a local folder the last part, so that no path gets into the files."""
    return Path(model).name if Path(model).exists() else model
