"""A tiny HPSv3 folder: Qwen2-VL from a config with the authors' head, its weights under library names."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>"]
INSTRUCTION = "\nHow good is it?\nTextual prompt - {text_prompt}\n\n\n\nRate: <|Reward|>\n\nEND\n"
# as Qwen2-VL's: a system turn, the picture's marks, the text
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDE = 16
HEAD = (WIDE, 8, 4, 2)


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        padding_side="left",
    )


def config(words):
    ids = words.convert_tokens_to_ids
    return Qwen2VLConfig(
        text_config={
            "hidden_size": WIDE,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 400,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": WIDE,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )


def build():
    """(tokenizer, model with one more token than the tokenizer, head), random."""
    torch.manual_seed(3)
    words = tokenizer()
    made = Qwen2VLForConditionalGeneration(config(words))
    made.resize_token_embeddings(len(words) + 1)  # as the authors made room for the reward token
    head = {}
    for place, wide, narrow in zip((0, 3, 5), HEAD, HEAD[1:], strict=False):
        head[f"rm_head.{place}.weight"] = torch.randn(narrow, wide)
        head[f"rm_head.{place}.bias"] = torch.randn(narrow)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(0.3 * torch.randn_like(weight))
    return words, made.eval(), head


def folder(place, older_names=False):
    """Qwen2-VL's own files, whose config.json knows nothing of the new token, and the weights."""
    words, made, head = build()
    words.save_pretrained(place)
    Qwen2VLImageProcessorPil().save_pretrained(place)
    config(words).save_pretrained(place)
    weights = {name: value.contiguous() for name, value in made.state_dict().items()} | head
    if older_names:  # transformers before 4.52
        weights = {
            name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
            for name, value in weights.items()
        }
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    (place / "instruction.txt").write_text(INSTRUCTION)
    assert json.loads((place / "config.json").read_text())["text_config"]["vocab_size"] == 400
    return str(place)
