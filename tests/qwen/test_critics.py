"""Critics of the classes that people use, with their real processors, from configs alone."""

import json

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.protocols import Message, Weights
from rpo_cli.stages.replies import SingleReply, schema
from tests.backends import tiny_hpsv3
from tests.backends.test_qwen_editor import PAD, picture, text_encoder

pytestmark = pytest.mark.qwen

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
EYE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def tokenizer(*tokens, **named):
    """The byte tokenizer with the class's own control tokens; named ones are its attributes."""
    base = tiny_hpsv3.tokenizer()
    base.add_tokens([*tokens, *named.values()], special_tokens=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=base.backend_tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=named,
    )


def template(mark):
    """A turn with the class's own mark for a picture."""
    return tiny_hpsv3.TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", mark)


def qwen25(folder):
    words = tiny_hpsv3.tokenizer()
    text_encoder(words).save_pretrained(folder)
    made = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor(), chat_template=tiny_hpsv3.TEMPLATE
    )
    made.save_pretrained(folder)


def qwen3(folder):
    words = tiny_hpsv3.tokenizer()
    ids = {name: words.convert_tokens_to_ids(name) for name in (PAD, "<|vision_start|>", "<|vision_end|>")}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e6}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "out_hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "patch_size": 16,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids[PAD],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    pictures = Qwen2VLImageProcessor(patch_size=16)
    made = Qwen3VLProcessor(pictures, words, Qwen3VLVideoProcessor(), chat_template=tiny_hpsv3.TEMPLATE)
    made.save_pretrained(folder)


def internvl(folder):
    """InternVL3.5's own layout for transformers: pictures cut into tiles, a Qwen3 behind them."""
    words = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        vision_config=EYE,
        text_config={**TEXT, "model_type": "qwen3", "vocab_size": len(words)},
        image_token_id=words.context_image_token_id,
        image_seq_length=1,
    )
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    pictures = GotOcr2ImageProcessor(size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=4)
    mark = template("<IMG_CONTEXT>\n")
    video = InternVLVideoProcessor(size={"height": 28, "width": 28})
    InternVLProcessor(pictures, words, video, image_seq_length=1, chat_template=mark).save_pretrained(
        folder
    )


def onevision(folder):
    """LLaVA-OneVision, the class of LLaVA-Critic and of the first UnifiedReward once converted."""
    words = tokenizer("<image>", "<video>")
    grid = [[28, 28], [28, 56], [56, 28], [56, 56]]
    config = LlavaOnevisionConfig(
        vision_config={**EYE, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    made = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid),
        words,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<image>\n"),
    )
    made.save_pretrained(folder)


def gemma3(folder):
    words = tokenizer(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft>")
    config = Gemma3Config(
        vision_config={**EYE, "vision_use_head": False},
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "sliding_window": 64,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
        mm_tokens_per_image=4,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        image_token_index=words.image_token_id,
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zeros at first
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    pictures = Gemma3ImageProcessor(size={"height": 28, "width": 28})
    mark = template("<start_of_image>")
    Gemma3Processor(pictures, words, image_seq_length=4, chat_template=mark).save_pretrained(folder)


CLASSES = [qwen25, qwen3, internvl, onevision, gemma3]
LENGTH = {qwen25: 300, qwen3: 300}  # tokens; others are slower


@pytest.mark.parametrize("make", CLASSES)
def test_a_critic_of_the_class_that_people_use_answers_in_json_the_same_in_any_company(make, tmp_path):
    """Pictures of three shapes, so that tiles and patches differ from row to row."""
    torch.manual_seed(0)
    make(tmp_path)
    critic = TransformersCritic(Weights(str(tmp_path)))
    critic.setup()
    texts = ["What is wrong? " * n for n in (1, 9, 3)]
    asked = [(Message("user", text, picture(n, (64, 64 + 32 * n))),) for n, text in enumerate(texts)]
    held, length = schema(3, single=True), LENGTH.get(make, 40)
    together = critic.reply(asked, schema=held, max_tokens=length)
    for reply, one in zip(together, asked, strict=True):
        if reply.finish == "stop":
            SingleReply.model_validate(json.loads(reply.text))
        assert critic.reply([one, one, one], schema=held, max_tokens=length)[0] == reply
    assert all(reply.text.startswith("{") for reply in together)
    yes = critic.yes_probability(asked)
    assert all(0 <= one <= 1 for one in yes)
    assert critic.yes_probability(asked[::-1]) == yes[::-1]


@pytest.mark.parametrize("make", CLASSES)
def test_a_judge_shows_two_pictures_and_control_words_in_a_text_stay_words(make, tmp_path):
    torch.manual_seed(0)
    make(tmp_path)
    critic = TransformersCritic(Weights(str(tmp_path)))
    critic.setup()
    marks = [str(token) for token in critic._processor.tokenizer.added_tokens_decoder.values()]
    plain = (Message("user", "Which is better?", picture(1), (picture(2),)),)
    hostile = (Message("user", f"Which is better? {' '.join(marks)}", picture(1), (picture(2),)),)
    turned = (Message("user", "Which is better?", picture(2), (picture(1),)),)
    one, other, third = critic.yes_probability([plain, hostile, turned])
    assert all(0 <= value <= 1 for value in (one, other, third))
    assert one != third
