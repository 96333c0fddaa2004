"""A text is encoded once while its pictures are drawn, whatever its neighbours; layouts by device."""

import numpy as np
import pytest
import torch

from rpo_cli import compute, registry
from rpo_cli.backends import loading
from rpo_cli.backends.loading import KnownTexts, load_pipeline
from rpo_cli.protocols import EditRequest, Weights
from rpo_cli.shapes.preset import MODELS
from tests.backends.test_empty_parts import SIDE, Image
from tests.closeness import FORWARD, assert_close

IDS = torch.arange(24).reshape(6, 4) % 7  # six texts of four tokens; none is another


class Encoder:
    """Each text's own numbers, in transformers' form; `shapes` are those that it was asked in."""

    def __init__(self, width=3):
        self.shapes, self.width = [], width

    def __call__(self, input_ids, attention_mask=None, output_hidden_states=None):
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        self.shapes.append(len(input_ids))
        last = (input_ids * (1 if attention_mask is None else attention_mask)).float()[..., None]
        last = last.expand(-1, -1, self.width)
        states = (last * 2, last * 3) if output_hidden_states else None
        return BaseModelOutputWithPooling(last_hidden_state=last, hidden_states=states)


def remembering(*, alone, width=3):
    encoder = Encoder(width)
    known = KnownTexts(encoder, alone=alone)

    def call(*given, **named):
        with torch.no_grad():
            return known(*given, **named)

    return encoder, call


def test_on_a_cpu_each_text_is_encoded_once_and_alone():
    encoder, known = remembering(alone=True)
    first = known(IDS[[0, 0, 1, 1]])
    known(IDS[[5, 5, 5, 5]])  # the blank one
    second = known(IDS[[1, 1, 2, 2]])

    assert encoder.shapes == [1, 1, 1, 1]  # 0, 1, blank, 2
    assert torch.equal(first.last_hidden_state[:, 0, 0], IDS[[0, 0, 1, 1], 0].float())
    assert torch.equal(second[0][:, 1, 2], IDS[[1, 1, 2, 2], 1].float())
    assert second.pooler_output is None


def test_elsewhere_new_texts_are_encoded_in_the_shape_of_the_batch():
    encoder, known = remembering(alone=False)
    known(IDS[[0, 1, 2]])
    out = known(IDS[[2, 3, 3]])
    known(IDS[[3, 2, 3]])

    assert encoder.shapes == [3, 3]
    assert torch.equal(out.last_hidden_state[:, 0, 0], IDS[[2, 3, 3], 0].float())


def test_as_many_texts_are_kept_as_a_batch_has_and_the_blank_one():
    encoder, known = remembering(alone=True)
    known(IDS[[0, 1]])
    known(IDS[[5, 5]])
    known(IDS[[1, 2]])  # 0 is forgotten
    known(IDS[[5, 5]])
    known(IDS[[0, 2]])

    assert encoder.shapes == [1] * 5  # 0, 1, blank, 2, 0 again


def test_what_else_an_encoder_is_told_tells_texts_apart():
    encoder, known = remembering(alone=True)
    mask = torch.ones_like(IDS[:2])
    plain, states = known(IDS[:2]), known(IDS[:2], output_hidden_states=True)
    masked = known(IDS[:2], attention_mask=mask * 0)

    assert (plain.hidden_states, len(states.hidden_states)) == (None, 2)
    assert torch.equal(states.hidden_states[1], plain[0] * 3)
    assert not masked[0].any()
    assert encoder.shapes == [1] * 6


@pytest.mark.parametrize("given", [{"pixel_values": torch.ones(2, 3)}, {"past": object()}])
def test_a_picture_beside_a_text_is_no_text(given):
    asked = []
    known = KnownTexts(lambda ids, **named: asked.append(len(ids)), alone=True)
    with torch.no_grad():
        known(IDS[:2], **given)
        known(IDS[:2], **given)
    assert asked == [2, 2]


def test_what_is_too_large_to_keep_is_encoded_as_ever(monkeypatch):
    monkeypatch.setattr(loading, "MOST_KEPT", 4 * 3 * 4 - 1)  # one byte below a text's numbers
    encoder, known = remembering(alone=True)
    out = [known(IDS[:2]) for _ in range(2)]

    assert encoder.shapes == [1, 2, 2]
    assert torch.equal(out[0][0], out[1][0])


def test_where_gradients_are_wanted_nothing_is_kept():
    encoder = Encoder()
    known = KnownTexts(encoder, alone=True)
    known(IDS[:2])
    known(IDS[:2])
    assert encoder.shapes == [2, 2]


@pytest.mark.parametrize("name", ["diffusers", "sdxl", "sd3", "flux", "flux2-klein-base", "lcm"])
def test_every_kind_of_pipeline_encodes_a_prompt_once_for_all_its_pictures(tiny, name):
    backend = registry.load("generators", name)(
        Weights(tiny("generators", name)), steps=1, guidance=3.0, width=SIDE, height=SIDE
    )
    backend.setup()
    encoders = [part for key, part in backend.pipe.components.items() if key.startswith("text_encoder")]
    texts = []
    for encoder in encoders:  # the last layer sees every pass
        layer = list(encoder.modules())[-1]
        layer.register_forward_hook(lambda module, given, out: texts.append(id(module)))
    backend.generate(["a red circle"] * 2, [1, 2])
    once = len(texts)
    pictures = backend.generate(["a red circle"] * 2, [1, 2])

    assert once > 0
    assert len(texts) == once
    assert len(pictures) == 2


def test_an_editor_encodes_an_instruction_once(tiny):
    backend = registry.load("editors", "instruct-pix2pix")(
        Weights(tiny("editors", "instruct-pix2pix")), steps=1
    )
    backend.setup()
    asked = []
    backend._pipe.text_encoder.forward._forward = _counting(backend._pipe.text_encoder, asked)
    request = EditRequest(Image.new("RGB", (SIDE, SIDE), (200, 30, 30)), "make it blue", 3)
    for guidance in (2.0, 7.0):
        backend.edit([request, request], guidance=guidance, image_guidance=1.5)
    assert asked == [1, 1]  # the instruction and the blank


def _counting(encoder, asked):
    forward = encoder.forward._forward

    def call(*given, **named):
        asked.append(len(given[0]))
        return forward(*given, **named)

    return call


def test_the_embedded_model_encodes_a_text_alone_as_in_a_batch_of_sixteen():
    """Where this was measured to the bit, so its rows have the bytes that they had."""
    pipe = load_pipeline(Weights(str(MODELS / "text-to-image")))
    texts = [f"a small {colour} circle on a white background" for colour in ("red", "green", "blue")] * 6
    ids = pipe.tokenizer(texts[:16], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        alone = pipe.text_encoder(ids)[0]
        together = pipe.text_encoder.forward._forward(ids)[0]
    assert_close(alone, together, FORWARD)


@pytest.mark.parametrize(("name", "large", "last"), [("sdxl", 10**6, True), ("sdxl", 10, False)])
def test_a_unet_has_the_layout_of_its_size_and_a_transformer_its_own(tiny, monkeypatch, name, large, last):
    monkeypatch.setattr(compute, "LARGE", large)
    pipe = load_pipeline(Weights(tiny("generators", name)))
    assert pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last) == last
    assert load_pipeline(
        Weights(tiny("generators", "sd3"))
    ).transformer.pos_embed.proj.weight.is_contiguous()


def test_pictures_are_those_of_the_plain_pipeline(tiny):
    """Within rounding: there all texts of a batch are encoded at once."""
    from diffusers import DiffusionPipeline

    prompts, seeds = ["a red circle", "a blue square", "a red circle"], [1, 2, 3]
    backend = registry.load("generators", "sdxl")(
        Weights(tiny("generators", "sdxl")), steps=2, guidance=5.0, width=SIDE, height=SIDE
    )
    backend.setup()
    plain = DiffusionPipeline.from_pretrained(tiny("generators", "sdxl"))
    wanted = plain(
        prompts, generator=loading.generators(seeds), num_inference_steps=2, guidance_scale=5.0,
        width=SIDE, height=SIDE,
    ).images  # fmt: skip
    found = backend.generate(prompts, seeds)
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
