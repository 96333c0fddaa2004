"""What the decoder learns from: clean latents, made noisy and denoised again."""

from types import SimpleNamespace

import torch

from rpo_cli.shapes.recipe import diffusion
from rpo_cli.shapes.recipe.train_decoder import denoised_again
from tests.closeness import assert_close


def test_a_perfect_denoiser_gives_the_clean_latents_back():
    scheduler = diffusion.build_scheduler()
    clean = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def perfect(noisy, time, states):
        kept = scheduler.alphas_cumprod[time]
        noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        return SimpleNamespace(sample=kept.sqrt() * noise - (1 - kept).sqrt() * clean)

    made = denoised_again(perfect, scheduler, clean, None, start=300)

    assert_close(made, clean)
