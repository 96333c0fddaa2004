"""UltraEdit's loop against its definition, written out with other parts of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image

from rpo_cli import open_line
from rpo_cli.backends.ultra_edit import UltraEditEditor
from rpo_cli.errors import RpoError
from rpo_cli.line.work.models import editor as chosen_editor
from rpo_cli.protocols import EditRequest, Weights
from tests.tiny_editors import UltraEdit, save


def picture(seed, side=32):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@torch.no_grad()
def by_definition(folder, asked, steps, text_scale, image_scale):
    """One row, one forward pass a condition, no batch: Brooks et al. 2022, equation 3."""
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(asked.seed))
    pixels = torch.tensor(np.asarray(asked.image)).permute(2, 0, 1)[None] / 127.5 - 1
    seen = [pipe.vae.encode(part).latent_dist.mean for part in (pixels, torch.ones_like(pixels))]
    texts = {
        text: pipe.encode_prompt(
            text, None, None, do_classifier_free_guidance=False, max_sequence_length=16
        )
        for text in (asked.instruction, "")
    }

    def velocity(text, shown, time):
        beside = [part if shown else torch.zeros_like(part) for part in seen]
        embedded, _, pooled, _ = texts[text]
        together = torch.cat([latents, *beside], dim=1)
        return pipe.transformer(together, embedded, pooled, time[None], return_dict=False)[0]

    pipe.scheduler.set_timesteps(steps)
    sigmas = pipe.scheduler.sigmas
    for place, time in enumerate(pipe.scheduler.timesteps):
        nothing, seeing = velocity("", False, time), velocity("", True, time)
        told = velocity(asked.instruction, True, time)
        out = nothing + image_scale * (seeing - nothing) + text_scale * (told - seeing)
        latents = latents + (sigmas[place + 1] - sigmas[place]) * out  # Euler's step of the flow
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample[0]
    return ((decoded.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()


def test_an_edit_is_that_of_the_definition(tiny):
    folder = tiny("editors", "ultra-edit")
    made = UltraEditEditor(Weights(folder), steps=3)
    made.setup()
    asked = EditRequest(picture(1), "make it red", 7)
    (found,) = made.edit([asked], guidance=4.0, image_guidance=1.5)
    expected = by_definition(folder, asked, 3, 4.0, 1.5)
    assert np.abs(np.asarray(found) - expected).max() < 1


def test_without_a_mask_in_its_channels_the_picture_alone_goes_in(tmp_path):
    made = UltraEditEditor(Weights(save(lambda folder: UltraEdit(folder, seen=1), tmp_path)), steps=1)
    made.setup()
    (found,) = made.edit([EditRequest(picture(2), "make it red", 1)], guidance=3.0, image_guidance=1.5)
    assert found.size == (32, 32)


def test_another_number_of_channels_is_told(tmp_path):
    made = UltraEditEditor(Weights(save(lambda folder: UltraEdit(folder, seen=0), tmp_path)), steps=1)
    with pytest.raises(RpoError, match="has 4 channels, not 8 or 12"):
        made.setup()


def test_the_folders_own_files_choose_it(tiny, tmp_path):
    line = open_line(tmp_path / "run", {"edit.editor": tiny("editors", "ultra-edit")})
    assert chosen_editor(line).name == "ultra-edit"
