"""Critics that people use: what each is, its licence and the memory of its weights. Data; loads nothing.

Parameters are those of the model cards; memory is 2 bytes a parameter (bfloat16), the cache of keys and
values comes on top. None of these weights has been loaded where this was written: their classes are proven
on tiny random models (`make test-qwen`), settings are from the models' documentation.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CriticModel:
    """`ref` is the hub id that `--critic` stands for; `license` says where it was read."""

    summary: str
    source: str
    ref: str
    license: str
    gigabytes: int
    backend: str = "vllm-server"


QWEN3_VL_8B = CriticModel(
    summary="Qwen3-VL-8B-Instruct: critiques and instructions; the default on a GPU.",
    source="https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct",
    ref="Qwen/Qwen3-VL-8B-Instruct",
    license="Apache-2.0 (its card)",
    gigabytes=18,
)
QWEN25_VL_7B = CriticModel(
    summary="Qwen2.5-VL-7B-Instruct: the older one, known to most tools.",
    source="https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct",
    ref="Qwen/Qwen2.5-VL-7B-Instruct",
    license="Apache-2.0 (others' pages; read its card)",
    gigabytes=17,
)
INTERNVL35_8B = CriticModel(
    summary="InternVL3.5-8B in transformers' own layout, which needs no remote code.",
    source="https://huggingface.co/OpenGVLab/InternVL3_5-8B-HF",
    ref="OpenGVLab/InternVL3_5-8B-HF",
    license="Apache-2.0 (the card of its 38B sibling)",
    gigabytes=17,
)
UNIFIED_REWARD_8B = CriticModel(
    summary="UnifiedReward-2.0 on Qwen3-VL-8B: a judge of pictures and pairs; not for instructions.",
    source="Wang et al. 2025, arXiv:2503.05236; https://huggingface.co/CodeGoat24",
    ref="CodeGoat24/UnifiedReward-2.0-qwen3vl-8b",
    license="MIT (the cards of its siblings)",
    gigabytes=18,
)
LLAVA_CRITIC_7B = CriticModel(
    summary="LLaVA-Critic-7B, the paper's: in LLaVA-NeXT's layout, which nothing here loads.",
    source="Xiong et al. 2024, arXiv:2410.02712; https://huggingface.co/lmms-lab/llava-critic-7b",
    ref="lmms-lab/llava-critic-7b",
    license="Apache-2.0 (its card)",
    gigabytes=16,
)


def gpu_preset() -> dict[str, Any]:
    """Settings for one GPU of 24 GB or more: Qwen3-VL-8B behind a vLLM server of our own.

    Generator, editor and further rewards are the user's to name.
    """
    notes = (
        "The preset's critic, Qwen3-VL-8B-Instruct, was set up from its documentation; its weights were "
        "not run where this version of rpo was made.",
    )
    return {
        "notes": notes,
        "generate": {"dtype": "bfloat16"},
        "critique": {
            "critic": QWEN3_VL_8B.ref,
            "backend": QWEN3_VL_8B.backend,
            "dtype": "bfloat16",
            "max_tokens": 1024,
            # pictures of up to 2 megapixels, two in a judgement, and room for both turns
            "server_args": ("--max-model-len=16384",),
        },
        "edit": {"dtype": "bfloat16"},
        "score": {
            "rewards": (f"vqascore={QWEN3_VL_8B.ref}",),
            "backend": QWEN3_VL_8B.backend,
            "dtype": "bfloat16",
        },
    }
