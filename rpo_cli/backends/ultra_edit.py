"""UltraEdit: Stable Diffusion 3 that sees the picture, and where it may edit it, beside the noise.

diffusers has no pipeline of this call; the authors' stands in a fork of theirs. So the folder's parts are
loaded into SD3's own pipeline, which encodes texts, and the loop is here; no code of a folder runs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image as Picture
from torch import Tensor

from rpo_cli.backends.editor import working_size
from rpo_cli.backends.loading import generators, load_pipeline, resized, tokens_over
from rpo_cli.errors import RpoError
from rpo_cli.protocols import EditRequest, Weights


class UltraEditEditor:
    """InstructPix2Pix on Stable Diffusion 3; the whole picture may change: its mask is white.

    Latents of the picture are neither shifted nor scaled, and those that come out are scaled but not
    shifted, as the authors trained it.

    Source: Zhao et al. 2024, arXiv:2407.05282; https://github.com/HaozheZhao/UltraEdit
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 50,
        scheduler: str | None = None,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._steps = steps
        self._masked = True
        self._pipe: Any = None

    def setup(self) -> None:
        """Load the parts.

        Raises:
            RpoError: the transformer takes neither a picture nor a picture and a mask beside the noise.
        """
        self._pipe = load_pipeline(self._weights, self._scheduler, kind="StableDiffusion3Pipeline")
        own, taken = self._pipe.vae.config.latent_channels, self._pipe.transformer.config.in_channels
        if taken not in (2 * own, 3 * own):
            raise RpoError(
                f"{self._weights.model}: its input has {taken} channels, not {2 * own} or {3 * own}",
                "give a model of UltraEdit's layout, e.g. BleachNick/SD3_UltraEdit_w_mask",
            )
        self._masked = taken == 3 * own

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts, longest=self._pipe.tokenizer_max_length)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        """One picture per request (all of one size)."""
        assert guidance is not None
        assert image_guidance is not None
        pipe, original = self._pipe, requests[0].image.size
        size = working_size(original, pipe.vae_scale_factor * pipe.patch_size)
        seen = self._latents([resized(request.image, size) for request in requests])
        texts, pooled = self._texts([request.instruction for request in requests])
        own = pipe.vae.config.latent_channels
        shape = (len(requests), own, *seen.shape[2:])
        noise = generators([request.seed for request in requests])
        latents = randn_tensor(shape, noise, device=seen.device, dtype=seen.dtype)
        beside = torch.cat([seen, seen, torch.zeros_like(seen)])
        pipe.scheduler.set_timesteps(self._steps, device=seen.device)
        for time in pipe.scheduler.timesteps:
            out = pipe.transformer(
                hidden_states=torch.cat([torch.cat([latents] * 3), beside], dim=1),
                timestep=time.expand(3 * len(requests)),
                encoder_hidden_states=texts,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
            told, shown, blind = out.chunk(3)  # text and picture, picture alone, neither
            out = blind + guidance * (told - shown) + image_guidance * (shown - blind)
            latents = pipe.scheduler.step(out, time, latents, return_dict=False)[0]
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
        return [resized(found, original) for found in pipe.image_processor.postprocess(decoded)]

    def _latents(self, pictures: Sequence[Picture]) -> Tensor:
        """(rows, 16 or 32 channels, h, w): the picture's latents, then those of a white mask."""
        vae = self._pipe.vae
        pixels = self._pipe.image_processor.preprocess(list(pictures)).to(vae.device, vae.dtype)
        parts = [pixels, torch.ones_like(pixels)] if self._masked else [pixels]
        return torch.cat([vae.encode(part).latent_dist.mode() for part in parts], dim=1)

    def _texts(self, instructions: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of the instruction, nothing and nothing, in the order of the guidance."""
        pipe = self._pipe
        texts, empty, pooled, pooled_empty = pipe.encode_prompt(
            instructions, None, None, max_sequence_length=pipe.tokenizer_max_length
        )
        return torch.cat([texts, empty, empty]), torch.cat([pooled, pooled_empty, pooled_empty])
