"""The denoiser, text encoder and schedule of both pipelines, and the loss they are trained with. No
data, no loop.

Source: v-prediction, Salimans & Ho 2022, arXiv:2202.00512.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from rpo_cli.shapes.recipe.tokenizer import MAX_LENGTH

WIDTH = 96  # of the text encoder
LATENT_SIDE, LATENT_CHANNELS = 16, 4
CHANNELS = (32, 64, 120)
TRAIN_STEPS = 1000
TIME_MEAN, TIME_SPREAD = 0.5, 1.2
# The usual last beta of .012 would leave the picture's mean readable at the last step (256 latents
# a channel average the noise away), and a model that has learned to read it there draws washed-out
# backgrounds from pure noise.
BETAS = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


def build_scheduler() -> Any:
    """The training schedule; v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        **BETAS,
    )


def sampling_scheduler(*, stochastic: bool) -> Any:
    """The same schedule with the solver that a pipeline folder names.

    Stochastic to generate: fresh noise mends what a step got wrong, and more pictures come out readable.
    Not to edit: what must stay as it is stays better without.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS,
        prediction_type="v_prediction",
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        solver_order=2,
        steps_offset=1,
        timestep_spacing="trailing",
        **BETAS,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two causal layers of width 96, trained jointly with the denoiser."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet(in_channels: int = LATENT_CHANNELS) -> Any:
    """Three levels, text attention on the lower two (8x8 and 4x4 latents)."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=in_channels,
        out_channels=LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def draw_timesteps(count: int) -> Tensor:
    """Timesteps from torch's global generator, (count,): one half even, one half about the middle.

    In the middle shape, place and relation are settled; logit-normal as in Esser et al. 2024,
    arXiv:2403.03206. The even half keeps the last, sharpening steps in practice.
    """
    drawn = torch.sigmoid(TIME_MEAN + TIME_SPREAD * torch.randn(count))
    drawn[::2] = torch.rand(len(drawn[::2]))
    return (drawn * TRAIN_STEPS).long().clamp(max=TRAIN_STEPS - 1)


def velocity_loss(
    scheduler: Any, predicted: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Mean squared error on v, every timestep alike; scalar float32.

    No min-SNR weight: it all but silences the noisy timesteps, where the place of things is
    settled, and after 50,000 samples under it positions were still at chance.
    """
    target = scheduler.get_velocity(latents, noise, timesteps)
    return (predicted.float() - target.float()).square().mean()


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids padded to MAX_LENGTH as the diffusers pipelines pad them, (N, MAX_LENGTH)."""
    batch = tokenizer(
        texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    return torch.as_tensor(batch.input_ids)
