"""Where a training of a sequence begins: with the adapter of the one before, beside the reference it names.

A training of its own begins with the model alone: an adapter that adds nothing, and adapters off as the
reference.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rpo_cli.errors import UsageError
from rpo_cli.train.data.storage import folder_atomically, safetensors_bytes
from rpo_cli.train.export.lora_files import diffusers_weights
from rpo_cli.train.families.family import Family
from rpo_cli.train.inputs import Start
from rpo_cli.train.policy import Average, Policy

LORA_FILE = "pytorch_lora_weights.safetensors"
TEXTS = "text_encoder"  # how the names of text encoders' weights begin


def load_adapter(parameters: dict[str, nn.Parameter], family: Family, folder: Path) -> None:
    """Put the weights of an exported LoRA in the place of `parameters`.

    Raises:
        UsageError: the folder holds no LoRA of these layers and this rank, or of text encoders as well.
    """
    path = folder / LORA_FILE
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", "delete its training to make it again"
        ) from error
    names = {saved_name(name, family) for name in parameters}
    if unread := sorted(name for name in saved if name.startswith(TEXTS) and name not in names):
        raise UsageError(
            f"{path}: also holds weights of text encoders, e.g. {unread[0]}",
            "--text-encoder: go on with all of what the LoRA changes",
        )
    for name, parameter in parameters.items():
        value = saved.get(saved_name(name, family))
        if value is None or value.shape != parameter.shape:
            raise UsageError(
                f"{path}: holds no weights for {name} of this shape",
                "train.rank, train.model and train.text_encoder must be those of the LoRA",
            )
        parameter.data.copy_(value)


def saved_name(parameter: str, family: Family) -> str:
    """The name that a parameter of the policy has in diffusers' LoRA file."""
    name = parameter.replace(".default.", ".")
    return name if parameter.startswith(TEXTS) else f"{family.component}.{name}"


def begin(policy: Policy, family: Family, start: Start) -> Average | None:
    """Give the policy its first weights.

    Returns:
        The reference, when it is another than the model without adapters.
    """
    reference = None
    if start.reference is not None:
        load_adapter(policy.parameters, family, start.reference)
        reference = Average(policy.parameters, 0.0)
    if start.adapter is not None:
        load_adapter(policy.parameters, family, start.adapter)
    return reference


def export_reference(folder: Path, policy: Policy, family: Family, anchor: Average) -> None:
    """Write the reference that moved beside the policy, as a LoRA that pipelines load."""
    applied: AbstractContextManager[None] = anchor.applied()
    with folder_atomically(folder) as temporary, applied:
        weights: dict[str, Tensor] = diffusers_weights(policy.unet, family.component, policy.encoders)
        (temporary / LORA_FILE).write_bytes(safetensors_bytes(weights, {}))
