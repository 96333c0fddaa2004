"""ImageReward on transformers' BLIP modules, from its own weights under their own names.

A folder: model.safetensors with ImageReward.pt's state dict as it is (`rpo convert ImageReward.pt
FOLDER/model.safetensors`; `blip.visual_encoder.*`, `blip.text_encoder.*` and `mlp.layers.*` are read,
other parts of BLIP are left out), the files of BERT's tokenizer (bert-base-uncased) and config.json. Of
config.json a BlipConfig's `vision_config` and `text_config` are read, where there are any; without them
the sizes are ImageReward's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor, nn
from transformers import BertTokenizer
from transformers.models.blip.configuration_blip import BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel
from transformers.utils.hub import cached_file

from rpo_cli.backends.loading import DTYPES, loading
from rpo_cli.backends.tensors import tensors
from rpo_cli.protocols import Weights

# of the scores that it gave its own training pictures
MEAN, STD = 0.16717362830052426, 1.0333394966054072
MAX_TOKENS = 35
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 16,
}
TEXT: dict[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
}
# CLIP's, which it was trained with
PIXEL_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
PIXEL_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
HEAD = (0, 2, 4, 6, 7)  # places of the linear layers among `mlp.layers`
_VISION_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.layers.\1.self_attn."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.\1."),
)


class ImageReward:
    """ImageReward: a BLIP that reads prompt and picture together, and a head; about -2 to 2.

    Source: Xu et al. 2023, arXiv:2304.05977; https://github.com/zai-org/ImageReward
    """

    def __init__(self, weights: Weights) -> None:
        self._weights, self._device, self._dtype = weights, weights.device, DTYPES[weights.dtype]
        self._tokenizer: Any = None
        self._eye: Any = None
        self._reader: Any = None
        self._head: Any = None

    def setup(self) -> None:
        kind = "ImageReward (see rpo_cli/backends/image_reward.py for the layout)"
        with loading(self._weights.model, kind, revision=self._weights.revision):
            self._load()

    def _load(self) -> None:
        ref, revision = self._weights.model, self._weights.revision
        self._tokenizer = BertTokenizer.from_pretrained(ref, revision=revision or "main")
        config = _config(ref, revision)
        sizes = VISION | _sizes(config, "vision_config", VISION)
        # 1e-6: of BLIP's own vision tower; transformers' default is another
        eye = BlipVisionModel(BlipVisionConfig(**sizes, layer_norm_eps=1e-6))
        text = TEXT | _sizes(config, "text_config", TEXT)
        width = eye.config.hidden_size
        reader = BlipTextModel(BlipTextConfig(**text, encoder_hidden_size=width), add_pooling_layer=False)
        weights = tensors(ref, revision)
        _fill(eye, vision_names(_below(weights, "blip.visual_encoder.")))
        _fill(reader, _below(weights, "blip.text_encoder."))
        self._head = _mlp(_below(weights, "mlp.layers.")).to(self._device)
        self._eye, self._reader = (part.eval().to(self._device, self._dtype) for part in (eye, reader))

    @torch.no_grad()
    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """(head(first token of the reader) - MEAN) / STD per row."""
        side = int(self._eye.config.image_size)
        pixels = torch.from_numpy(np.stack([framed(image, side) for image in images]))
        seen = self._eye(pixel_values=pixels.to(self._device, self._dtype)).last_hidden_state
        # what the reader makes of a prompt depends on the picture: no text features to keep
        tokens = self._tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(self._device)
        out = self._reader(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=self._device),
        )
        firsts = out.last_hidden_state[:, 0].float()
        # one by one: a product with several rows rounds otherwise than with one
        return [(float(self._head(row)) - MEAN) / STD for row in firsts]

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which prompts have more than 35 tokens, the most it was trained on."""
        return [len(ids) > MAX_TOKENS for ids in self._tokenizer(list(prompts)).input_ids]


def framed(image: Picture, side: int) -> Any:
    """(3, side, side) float32: shortest side to `side` (bicubic), the middle cut out, normalised."""
    scale = side / min(image.size)
    size = (max(side, int(image.width * scale)), max(side, int(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = ((length - side) // 2 for length in size)
    array = np.asarray(small.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
    return ((array - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1).copy()


def vision_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BLIP's vision tower in the names of BlipVisionModel."""
    found = {}
    for name, value in weights.items():
        for old, new in _VISION_NAMES:
            if re.search(old, name):
                found[re.sub(old, new, name)] = value
                break
    return found


def _config(ref: str, revision: str | None) -> dict[str, Any]:
    """config.json; {} where a hub id has none."""
    place = cached_file(ref, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    found = json.loads(Path(place).read_text(encoding="utf-8")) if place else {}
    return found if isinstance(found, dict) else {}


def _sizes(config: Mapping[str, Any], part: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a part of config.json; nothing else of it counts."""
    return {name: int(value) for name, value in config.get(part, {}).items() if name in known}


def _below(weights: Mapping[str, Tensor], beginning: str) -> dict[str, Tensor]:
    return {name.removeprefix(beginning): x for name, x in weights.items() if name.startswith(beginning)}


def _fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Every parameter from the file; position numbers and a pooler, which it may hold too, are left out."""
    missing, _ = module.load_state_dict(dict(weights), strict=False)
    lacking = sorted(set(missing) & {name for name, _ in module.named_parameters()})
    if lacking:
        raise KeyError(f"it lacks {len(lacking)} weights, e.g. {lacking[0]}")


def _mlp(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """The head in float32; no activation is between its linear layers."""
    shapes = [weights[f"{place}.weight"].shape for place in HEAD]
    head = nn.Sequential(*(nn.Linear(wide, narrow) for narrow, wide in shapes))
    for number, place in enumerate(HEAD):
        head[number].load_state_dict(
            {kind: weights[f"{place}.{kind}"].float() for kind in ("weight", "bias")}
        )
    return head.eval()
