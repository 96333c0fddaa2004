"""The finished model in diffusers' formats: a LoRA that `load_lora_weights` reads, or a UNet folder."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict

from rpo_cli import __version__
from rpo_cli.config import TrainSettings
from rpo_cli.train.files import folder_atomically, safetensors_bytes
from rpo_cli.train.metrics import Numbers
from rpo_cli.train.objective import Objective
from rpo_cli.train.policy import Policy

LORA_FILE = "pytorch_lora_weights.safetensors"
UNET_FILE = "diffusion_pytorch_model.safetensors"


def export(
    folder: Path,
    policy: Policy,
    settings: TrainSettings,
    objective: Objective,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Numbers],
) -> None:
    """Write weights and model card; the folder appears whole.

    Args:
        folder: becomes a LoRA folder, or with `settings.full` a UNet folder.
        facts: model, dataset and other inputs, for the card and the file's metadata.
        metrics: by a column title of the card, e.g. "validation, last".
    """
    metadata = {"rpo": json.dumps({**facts, "settings": settings.model_dump(mode="json")}, sort_keys=True)}
    with folder_atomically(folder) as temporary:
        if settings.full:
            (temporary / "config.json").write_text(portable_config(policy.unet), encoding="utf-8")
            weights = safetensors_bytes(policy.unet.state_dict(), metadata | {"format": "pt"})
            (temporary / UNET_FILE).write_bytes(weights)
        else:
            (temporary / LORA_FILE).write_bytes(safetensors_bytes(lora_weights(policy), metadata))
        (temporary / "README.md").write_text(
            card(settings, objective, facts, metrics), encoding="utf-8", newline="\n"
        )


def lora_weights(policy: Policy) -> dict[str, Any]:
    """The adapter under the names that diffusers pipelines expect, float32. Its alpha equals its rank."""
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(policy.unet))
    return {f"unet.{name}": value for name, value in layers.items()}


def card(
    settings: TrainSettings,
    objective: Objective,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Numbers],
) -> str:
    """The model card: what it is, how to use it, settings, numbers. No clock, no host, no local path."""
    kind = "full fine-tuning" if settings.full else f"LoRA of rank {settings.rank}"
    header = ["---", "library_name: diffusers", "pipeline_tag: text-to-image"]
    if "/" in facts["model"]:  # a hub id
        header.append(f"base_model: {facts['model']}")
    header += [
        "tags:",
        "- preference-optimization",
        f"- {objective.name}",
        *([] if settings.full else ["- lora"]),
        "---",
    ]
    dumped = settings.model_dump(mode="json", exclude={"name", "model"})
    return "\n".join(
        [
            *header,
            "",
            f"# {objective.name.upper()}, {kind}",
            "",
            f"Trained with rpo {__version__} on {facts['pairs']:,} preference pairs. "
            f"Objective: {objective.source}.",
            "",
            "```python",
            *_usage(settings.full),
            "```",
            "",
            *_table(["setting", "value"], {**dumped, "seed": facts["seed"]}),
            "",
            *_metrics_table(metrics),
            "",
            f"Errors are means over C, H, W on the model's own target. β: {objective.beta_unit}. "
            "Validation uses the same noise and timesteps every time. "
            "An implicit accuracy of one half is a coin flip.",
            "",
            *_table(["input", "identity"], {"model": facts["model_identity"], "dataset": facts["dataset"]}),
            "",
            f"torch {version('torch')}, diffusers {version('diffusers')}, peft {version('peft')}.",
            "",
        ]
    )


def _usage(full: bool) -> list[str]:
    if full:
        return [
            "unet = UNet2DConditionModel.from_pretrained(THIS_FOLDER)",
            "pipe = StableDiffusionPipeline.from_pretrained(BASE_MODEL, unet=unet)",
        ]
    return [
        "pipe = StableDiffusionPipeline.from_pretrained(BASE_MODEL)",
        "pipe.load_lora_weights(THIS_FOLDER)",
    ]


def _table(header: list[str], rows: Mapping[str, Any]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]


def _metrics_table(metrics: Mapping[str, Numbers]) -> list[str]:
    names = sorted({name for numbers in metrics.values() for name in numbers})
    rows = {
        name: " | ".join(f"{numbers[name]:.5g}" if name in numbers else "" for numbers in metrics.values())
        for name in names
    }
    return _table(["", *metrics], rows)


def portable_config(unet: Any) -> str:
    """config.json of a UNet without the folder it was loaded from."""
    config = json.loads(unet.to_json_string())
    config.pop("_name_or_path", None)
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def portable_name(model: str) -> str:
    """A hub id as it is; of a local folder the last part, so that no path gets into the files."""
    return Path(model).name if Path(model).exists() else model
