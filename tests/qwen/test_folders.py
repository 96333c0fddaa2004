"""Folders whose processor needs torchvision, loaded as a user's are: editors, generators and critics."""

import numpy as np
import pytest
import torch
from transformers import (
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from rpo_cli import open_line, registry
from rpo_cli.line.preflight import preflight
from rpo_cli.protocols import EditRequest, Weights
from rpo_cli.recipes import recipe
from tests.backends import tiny_hpsv3
from tests.backends.test_qwen_editor import NAMES, parts, picture
from tests.tiny_editors import klein

pytestmark = pytest.mark.qwen


def processor(kind, tokenizer, video):
    template = tiny_hpsv3.TEMPLATE
    return kind(Qwen2VLImageProcessor(), tokenizer, video, chat_template=template)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_model_loads_from_its_folder_and_the_door_lets_it_through(name, tmp_path):
    made = parts(name)
    made["processor"] = processor(Qwen2VLProcessor, made["tokenizer"], Qwen2VLVideoProcessor())
    NAMES[name](**made).save_pretrained(tmp_path / "model")
    line = open_line(tmp_path / "run", {"edit.editor": str(tmp_path / "model")})
    preflight(line, ["edit"])
    editor = registry.load("editors", name)(Weights(str(tmp_path / "model")), steps=1)
    editor.setup()
    guidance = recipe("editors", name).guidance
    asked = EditRequest(picture(1), "make it red", 1)
    (found,) = editor.edit([asked], guidance=guidance, image_guidance=None)
    assert found.size == (48, 32)
    assert not np.array_equal(np.asarray(found), np.asarray(asked.image))


def flux2_dev(folder):
    """FLUX.2 [dev]: guidance told to the transformer, texts by Mistral 3 through Pixtral's processor."""
    from diffusers import Flux2Pipeline, Flux2Transformer2DModel
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessor,
        PixtralProcessor,
    )

    base = klein(folder)
    words = tiny_hpsv3.tokenizer()
    words.add_tokens(["[IMG]", "[IMG_BREAK]", "[IMG_END]"], special_tokens=True)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(words),
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 30,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 4,  # the pipeline reads the layers 10, 20 and 30
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "head_dim": 8,
            "image_size": 32,
            "patch_size": 16,
        },
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
    )
    transformer = Flux2Transformer2DModel.from_config({**base.transformer.config, "guidance_embeds": True})
    made = PixtralProcessor(PixtralImageProcessor(), words, chat_template=tiny_hpsv3.TEMPLATE)
    Flux2Pipeline(
        base.scheduler, base.vae, Mistral3ForConditionalGeneration(config), made, transformer
    ).save_pretrained(folder)


def test_flux2_dev_draws_and_edits_from_its_folder(tmp_path):
    torch.manual_seed(0)
    flux2_dev(tmp_path / "model")
    model = str(tmp_path / "model")
    asked = {"edit.editor": model, "generate.generator": model, "prompts.limit": 2}
    preflight(open_line(tmp_path / "run", asked, preset="shapes"), ["generate", "edit"])
    generator = registry.load("generators", "flux2")(
        Weights(model), steps=1, guidance=2.5, width=64, height=64
    )
    generator.setup()
    drawn = generator.generate(["a red circle", "a blue square"], [1, 2])
    assert generator.generate(["a blue square"] * 2, [2, 1])[0].tobytes() == drawn[1].tobytes()
    editor = registry.load("editors", "flux2")(Weights(model), steps=1)
    editor.setup()
    requests = [EditRequest(picture(n, (64, 64)), "make it red", n) for n in (1, 2)]
    edited = editor.edit(requests, guidance=2.5, image_guidance=None)
    assert [found.size for found in edited] == [(64, 64)] * 2
    assert editor.edit(requests[1:], guidance=2.5, image_guidance=None)[0].tobytes() == edited[1].tobytes()
    assert editor.edit(requests[1:], guidance=9.0, image_guidance=None)[0].tobytes() != edited[1].tobytes()
