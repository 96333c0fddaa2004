"""A LoRA for tests that never load one: a real file, as the door of a command looks into it."""

import torch
from safetensors.torch import save_file


def write_adapter(folder, training):
    """A LoRA of one layer in `folder`, whose bytes differ from training to training."""
    folder.mkdir(parents=True, exist_ok=True)
    factors = {f"unet.attn.lora.{part}.weight": torch.zeros(1, 1) for part in ("down", "up")}
    save_file(factors, folder / "pytorch_lora_weights.safetensors", metadata={"training": training})
