"""The finished model in the formats that others read: a LoRA in several layouts, or the denoiser's folder.

    adapter/pytorch_lora_weights.safetensors    diffusers' `load_lora_weights`
    adapter/kohya/<name>.safetensors            kohya's trainer, ComfyUI, A1111; when asked for
    adapter/merged/                             the base's denoiser with the LoRA added; when asked for
    unet/ or transformer/                       every weight, after full tuning

Everything is read back and compared before it counts as written (`lora_files.check_lora`).

The model card says what was trained, on what, how it is used and what was measured.
"""

import json
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.composition import OF_PAIRS
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
from rpo_cli.train.families.family import Family
from rpo_cli.train.journal import Numbers
from rpo_cli.train.objectives.components import pair_reversed
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import Policy, require_texts
from rpo_cli.train.storage import folder_atomically, remove_temporaries, write_atomically, write_tensors
from rpo_cli.version import __version__

if TYPE_CHECKING:
    from rpo_cli.train.objectives.online import OnlineObjective

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
    objective: "Objective | OnlineObjective",
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
            write_tensors(temporary / LORA_FILE, weights, metadata)
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
    write_tensors(folder / file, weights, kohya_metadata(settings.rank))
    check_lora(folder, file, policy.unet, family, policy.encoders)


def write_denoiser(
    folder: Path, denoiser: Any, weights: dict[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """A folder that `from_pretrained` of the denoiser's class reads."""
    (folder / "config.json").write_text(portable_config(denoiser), encoding="utf-8")
    write_tensors(folder / DENOISER_FILE, weights, {**metadata, "format": "pt"})
    check_denoiser(folder / DENOISER_FILE, weights, denoiser)


def portable_config(denoiser: Any) -> str:
    """config.json of a denoiser without the folder it was loaded from."""
    config = json.loads(denoiser.to_json_string())
    config.pop("_name_or_path", None)
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def portable_name(model: str) -> str:
    """A hub id as it is; of a local folder the last part, so that no path gets into the files."""
    return Path(model).name if Path(model).exists() else model


FILES = "\n## Other layouts\n"
INTENDED = (
    "Intended use: drawing pictures with the base model, whose licence and limits apply. The preferences "
    "are those of the dataset above; whether people share them, and what else changed, was not measured."
)
INTENDED_FOR_REWARD = (
    "Intended use: drawing pictures with the base model, whose licence and limits apply. It was led by the "
    "rewards above; whether people share their taste, and what else changed, was not measured."
)
NEGATIVE = (
    "These weights prefer the losers. They are for the negative (unconditional) branch of guidance, beside "
    "the base model in the positive one; never draw with them alone."
)

NO_PART = frozenset({"export", "loggers", "processes", "dataset"})  # settings that change no weight
UNTOLD = {"name", "model", *NO_PART}
NOT_SAMPLED = {"steps", "save_every", "validate_every", "validation_draws", "size_condition"}


def card(
    settings: TrainSettings,
    family: Family,
    objective: "Objective | OnlineObjective",
    facts: Mapping[str, Any],
    metrics: Mapping[str, Numbers],
) -> str:
    """The model card: what it is, how to use it, settings, numbers. No clock, no host, no local path."""
    if not isinstance(objective, Objective):
        return _sampled_card(settings, family, objective, facts, metrics)
    kind = "full fine-tuning" if settings.full else f"LoRA of rank {settings.rank}"
    dumped = settings.model_dump(mode="json", exclude=UNTOLD, exclude_none=True)
    own = {f"{objective.name}.{name}": value for name, value in objective.numbers}
    negative = objective.contrast is pair_reversed
    return "\n".join(
        [
            *_header(settings, objective, facts),
            "",
            f"# {objective.name.upper()}, {kind}",
            "",
            f"Trained with rpo {__version__} on {facts['pairs']:,} {_items(objective)}. "
            f"Objective: {objective.source}.",
            "",
            "```python",
            *_usage(settings.full, family),
            *(_negative_branch(family) if negative and not settings.full else ()),
            "```",
            "",
            *([NEGATIVE, ""] if negative else []),
            *_table(["setting", "value"], {**dumped, **own, "seed": facts["seed"]}),
            "",
            *_metrics_table(metrics),
            "",
            f"Errors are means over C, H, W on the model's own target. β: {objective.beta_unit}. "
            "Validation uses the same noise and timesteps every time. "
            "An implicit accuracy of one half is a coin flip.",
            "",
            *_table(["input", "identity"], {"model": facts["model_identity"], "dataset": facts["dataset"]}),
            "",
            INTENDED,
            "",
            f"torch {version('torch')}, diffusers {version('diffusers')}, peft {version('peft')}.",
            "",
        ]
    )


def _sampled_card(
    settings: TrainSettings,
    family: Family,
    objective: "OnlineObjective",
    facts: Mapping[str, Any],
    metrics: Mapping[str, Numbers],
) -> str:
    """The card of a model that learned from pictures of its own."""
    kind = "full fine-tuning" if settings.full else f"LoRA of rank {settings.rank}"
    dumped = settings.model_dump(
        mode="json", exclude=UNTOLD | OF_PAIRS.keys() | NOT_SAMPLED, exclude_none=True
    )
    online = {f"online.{name}": value for name, value in facts["online"].items()}
    inputs = {"model": facts["model_identity"], "prompts": facts["prompts"]}
    inputs |= {f"reward {name}": identity for name, identity in facts["rewards"].items()}
    return "\n".join(
        [
            *_header(settings, objective, facts),
            "",
            f"# {objective.name.upper()}, {kind}",
            "",
            f"Trained with rpo {__version__} on {facts['images']:,} pictures of its own, in "
            f"{settings.rounds:,} rounds. Objective: {objective.source}.",
            "",
            "```python",
            *_usage(settings.full, family),
            "```",
            "",
            *_table(["setting", "value"], {**dumped, **online, "seed": facts["seed"]}),
            "",
            *_metrics_table(metrics),
            "",
            "Rewards are those of the pictures that the policy drew before it learned from them; nothing "
            "was held out. reward_noise is a reward's standard deviation over start seeds of one prompt. "
            f"β: {objective.beta_unit}.",
            "",
            *_table(["input", "identity"], inputs),
            "",
            INTENDED_FOR_REWARD,
            "",
            f"torch {version('torch')}, diffusers {version('diffusers')}, peft {version('peft')}.",
            "",
        ]
    )


def _items(objective: Objective) -> str:
    return "judged pictures" if objective.singles else "preference pairs"


def _header(
    settings: TrainSettings, objective: "Objective | OnlineObjective", facts: Mapping[str, Any]
) -> list[str]:
    """What the hub reads."""
    lines = ["---", "library_name: diffusers", "pipeline_tag: text-to-image"]
    if "/" in facts["model"]:  # a hub id
        lines.append(f"base_model: {facts['model']}")
    lines += ["tags:", "- preference-optimization", f"- {objective.name}"]
    return [*lines, *([] if settings.full else ["- lora"]), "---"]


def _usage(full: bool, family: Family) -> list[str]:
    if full:
        return [*loaded(family, "THIS_FOLDER")]
    return [
        f"pipe = {family.pipeline}.from_pretrained(BASE_MODEL)",
        "pipe.load_lora_weights(THIS_FOLDER)",
    ]


def _negative_branch(family: Family) -> list[str]:
    """Guidance runs both branches as one batch, the negative one first; the adapter is for that half.

    FLUX runs a branch at a time, so there is no half to tell it by.
    """
    if not family.pipeline.startswith("StableDiffusion"):
        return []
    denoiser = f"pipe.{family.component}"
    return [
        f"denoise = {denoiser}.forward",
        "",
        "def two_branches(*given, **named):",
        f"    {denoiser}.enable_lora()",
        "    negative = denoise(*given, **named)[0]",
        f"    {denoiser}.disable_lora()",
        "    positive = denoise(*given, **named)[0]",
        "    half = len(negative) // 2",
        "    return (torch.cat([negative[:half], positive[half:]]),)",
        "",
        f"{denoiser}.forward = two_branches",
    ]


def loaded(family: Family, folder: str) -> tuple[str, str]:
    """How a folder that holds a denoiser is used."""
    return (
        f"{family.component} = {family.denoiser}.from_pretrained({folder})",
        f"pipe = {family.pipeline}.from_pretrained(BASE_MODEL, {family.component}={family.component})",
    )


def with_files(text: str, family: Family, layouts: Collection[str]) -> str:
    """The card, its last section telling the other layouts that lie beside the LoRA."""
    kept, _, _ = text.partition(FILES)
    if not layouts:
        return kept
    lines = [FILES.strip(), ""]
    if "kohya" in layouts:
        lines.append("- `kohya/`: the same LoRA under the names that kohya's trainer and ComfyUI use.")
    if "merged" in layouts:
        first, second = loaded(family, '"THIS_FOLDER/merged"')
        lines.append(
            f"- `merged/`: the base model's {family.component} with the LoRA added: `{first}`, `{second}`."
        )
    return kept + "\n" + "\n".join([*lines, ""])


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
