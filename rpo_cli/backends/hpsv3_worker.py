"""HPSv3 in a process of its own: started by path, by whichever Python, it imports nothing of rpo.

    python -I hpsv3_worker.py MODEL REVISION DEVICE DTYPE

Standard input: one JSON object a line, {"prompts": [...], "images": [PNG in base64, ...]} or, without
images, the question which prompts are cut. Standard output: one JSON line that says with which libraries
scores are computed, then one for each. It ends when its input
ends, so also when whoever started it was killed. Libraries' words go to standard error.

Source: Ma et al. 2025, arXiv:2508.03789; https://github.com/MizzenAI/HPSv3
"""

import base64
import io
import json
import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils.hub import cached_file

REWARD = "<|Reward|>"  # the token whose hidden state the head reads
BLANK = "{text_prompt}"  # of the instruction, where the prompt goes
INSTRUCTION = "instruction.txt"
PIXELS = 256 * 28 * 28  # every picture is shown with as near to so many as its shape allows
MOST_TOKENS = 4096  # of a prompt; the authors set no limit, a graphics card does
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "pillow", "numpy")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class HpsV3:
    """Qwen2-VL with a head of linear layers, ReLU between them, on the hidden state at the reward token.

    The head gives the mean of a normal distribution over scores and the logarithm of its deviation, in
    float32. Positions count tokens one by one, also those of the picture: the authors' model embeds the
    picture before it asks for positions, so Qwen2-VL's own for rows and columns never come about.
    """

    def __init__(self, ref: str, revision: str | None, device: str, dtype: torch.dtype) -> None:
        safe: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        place = _file(ref, "model.safetensors", revision)
        self._instruction = Path(_file(ref, INSTRUCTION, revision)).read_text(encoding="utf-8")
        if self._instruction.count(BLANK) != 1 or self._instruction.count(REWARD) != 1:
            raise ValueError(f"{INSTRUCTION} must hold {BLANK} once and {REWARD} once")
        words: Any = AutoTokenizer
        pictures: Any = Qwen2VLImageProcessorPil
        kind: Any = Qwen2VLForConditionalGeneration
        self._tokenizer = words.from_pretrained(ref, **safe)
        self._tokenizer.add_tokens([REWARD], special_tokens=True)
        self._pictures = pictures.from_pretrained(ref, revision=revision)
        config = AutoConfig.from_pretrained(ref, **safe)
        self._head, config.text_config.vocab_size = _head_and_vocabulary(place)
        self._head = self._head.to(device)
        model, said = kind.from_pretrained(
            ref, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **safe
        )
        if missing := sorted(said["missing_keys"]):
            raise ValueError(f"it lacks {len(missing)} weights, e.g. {missing[0]}")
        self._model, self._device = model.eval().to(device), device
        self._image_token = self._tokenizer.convert_ids_to_tokens(config.image_token_id)
        self._reward_id = self._tokenizer.convert_tokens_to_ids(REWARD)

    @torch.inference_mode()
    def measure(self, prompt: str, picture: Image.Image) -> tuple[float, float]:
        """(mean, deviation) of one row; rows go one by one, for a neighbour's length moves last bits."""
        shown = self._pictures(images=[resized(picture)], do_resize=False, return_tensors="pt")
        grid = shown["image_grid_thw"]
        text = self._text(prompt, int(grid.prod()) // self._pictures.merge_size**2)
        ids = torch.tensor([self._tokenizer(text, add_special_tokens=False)["input_ids"]])
        out = self._model.model(
            input_ids=ids.to(self._device),
            position_ids=torch.arange(ids.shape[1], device=self._device).expand(3, 1, -1),
            pixel_values=shown["pixel_values"].to(self._device),
            image_grid_thw=grid.to(self._device),
            use_cache=False,
        )
        (place,) = torch.eq(ids[0], self._reward_id).nonzero()[:, 0].tolist()
        mean, log_deviation = self._head(out.last_hidden_state[0, place].float()).tolist()
        return mean, math.exp(min(log_deviation, 700.0))

    def _text(self, prompt: str, patches: int) -> str:
        asked = self._instruction.replace(BLANK, self._whole(prompt)[0])
        content = [{"type": "image"}, {"type": "text", "text": asked}]
        said: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return said.replace(self._image_token, self._image_token * patches)

    def _whole(self, prompt: str) -> tuple[str, bool]:
        """The prompt as far as it is read, and whether that is less than all of it."""
        tokens = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if len(tokens) <= MOST_TOKENS:
            return prompt, False
        return self._tokenizer.decode(tokens[:MOST_TOKENS]), True

    def cut(self, prompt: str) -> bool:
        return self._whole(prompt)[1]


def resized(picture: Image.Image) -> Image.Image:
    """The picture at sides that are multiples of 28, near its shape and PIXELS; bicubic.

    Source: `smart_resize` of https://github.com/QwenLM/Qwen2-VL with equal bounds.
    """
    wide, high = picture.size
    sides = [max(28, round(side / 28) * 28) for side in (wide, high)]
    ratio = math.sqrt(wide * high / PIXELS)
    if sides[0] * sides[1] > PIXELS:
        sides = [max(28, math.floor(side / ratio / 28) * 28) for side in (wide, high)]
    elif sides[0] * sides[1] < PIXELS:
        sides = [math.ceil(side / ratio / 28) * 28 for side in (wide, high)]
    return picture.convert("RGB").resize((sides[0], sides[1]), Image.Resampling.BICUBIC)


def _file(ref: str, name: str, revision: str | None) -> str:
    return str(cached_file(ref, name, revision=revision))


def _head_and_vocabulary(place: str) -> tuple[nn.Module, int]:
    """The head from its own tensors, and how many tokens the file embeds, which no config.json says.

    Raises:
        KeyError: no head, or no embeddings.
    """
    layers: list[nn.Module] = []
    with safe_open(place, framework="pt") as file:
        names = list(file.keys())
        weights = sorted(name for name in names if name.startswith("rm_head.") and name.endswith("weight"))
        embeddings = [name for name in names if name.endswith("embed_tokens.weight")]
        if not weights or len(embeddings) != 1:
            raise KeyError("no weights of rm_head, or none of embed_tokens")
        for name in weights:
            weight: Tensor = file.get_tensor(name).float()
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            bias = file.get_tensor(name.removesuffix("weight") + "bias").float()
            linear.load_state_dict({"weight": weight, "bias": bias})
            layers += [linear, nn.ReLU()]
        vocabulary = int(file.get_slice(embeddings[0]).get_shape()[0])
    return nn.Sequential(*layers[:-1]).eval(), vocabulary


def environment(device: str) -> dict[str, str]:
    """What the bits of a score depend on beside its settings, in the names of `rpo_cli.compute`."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found |= {name: version(name) for name in LIBRARIES}
    found["device"] = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return found | ({"threads": str(torch.get_num_threads())} if device == "cpu" else {})


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    ref, revision, device, dtype = sys.argv[1:]
    scorer = HpsV3(ref, revision or None, device, DTYPES[dtype])
    _say(answers, environment(device))
    for line in sys.stdin:
        asked = json.loads(line)
        if "images" in asked:
            pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in asked["images"]]
            _say(answers, [scorer.measure(*row) for row in zip(asked["prompts"], pictures, strict=True)])
        else:
            _say(answers, [scorer.cut(prompt) for prompt in asked["prompts"]])


def _say(answers: Any, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
