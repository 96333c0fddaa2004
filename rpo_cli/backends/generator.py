"""Text to image with any diffusers model: from noise, in one step, or from half-way back to noise."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoPipelineForImage2Image, DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image as Picture

from rpo_cli.backends.loading import finished, generators, load_pipeline, tokens_over
from rpo_cli.compute import is_out_of_memory
from rpo_cli.errors import Case, RpoError, UsageError, translated
from rpo_cli.protocols import Weights


def _adapted(pipe: Any, model: str, lora: str | None, revision: str | None) -> list[str]:
    """Put the LoRA onto the pipeline, where there is one; what is to be known of it."""
    if lora is None:
        return []
    from rpo_cli.backends.lora import load_adapter

    return load_adapter(pipe, lora, model, revision)


HOW: dict[str, Any] = {"dynamic": False}  # every batch has one shape
_NO_BLOCKS = Case(
    [ValueError, AttributeError],
    "{where}: diffusers does not know which blocks of its denoiser are repeated: {why}",
    "leave out generate.compile",
    UsageError,
)
_NOT_COMPILED = Case(
    ["torch._dynamo.exc.TorchDynamoException", "torch._inductor.exc.InductorError"],
    "{where}: torch.compile fails on its denoiser: {why}",
    "leave out generate.compile; nothing is lost",
    when=lambda error: not is_out_of_memory(error),
)


class _Compiled:
    """The repeated blocks of a pipeline's denoiser, compiled where that is asked for, and what it took."""

    def __init__(self, model: str, notes: list[str], *, asked: bool) -> None:
        self._model, self._notes, self._asked = model, notes, asked

    def prepare(self, pipe: Any) -> None:
        """Have each kind of block compiled when it is first called: in the first batch.

        Raises:
            UsageError: it has no blocks that diffusers knows to be repeated.
        """
        if self._asked:
            torch.compiler.reset()  # torch keeps eight forms of a block, of all models of a process
            with translated(_NO_BLOCKS, where=self._model):
                denoiser = getattr(pipe, "unet", None) or pipe.transformer
                # of some classes (SD3's) diffusers tells them under the other name only
                denoiser._repeated_blocks = denoiser._repeated_blocks or denoiser._no_split_modules
                denoiser.compile_repeated_blocks(**HOW)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """While a batch is drawn; of the first it is noted how long that took."""
        if not self._asked:
            yield
            return
        started = time.monotonic()
        with translated(_NOT_COMPILED, where=self._model):
            yield
        self._asked = False
        took = time.monotonic() - started
        self._notes.append(f"the first batch took {took:,.0f} s, in which the denoiser was compiled")


class DiffusersGenerator:
    """`DiffusionPipeline.from_pretrained`, one seeded generator per row (see `protocols.Generator`)."""

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 50,
        guidance: float | None = 7.5,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        lora: str | None = None,
        lora_revision: str | None = None,
        denoiser: str | None = None,
        call: Mapping[str, Any] | None = None,
        compile: bool = False,
    ) -> None:
        """`call`: what else the pipeline is called with, e.g. the guidance of a model that takes none."""
        self._weights, self._scheduler = weights, scheduler
        self._scheduler_config, self._denoiser = scheduler_config, denoiser
        self._call: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "width": width,
            "height": height,
        }
        self._call |= call or {}
        self._negative_prompt = negative_prompt
        self._lora, self._lora_revision = lora, lora_revision
        self._pipe: Any = None
        self.notes: list[str] = []
        self.compiled = _Compiled(weights.model, self.notes, asked=compile)

    def setup(self) -> None:
        self._pipe = load_pipeline(
            self._weights,
            self._scheduler,
            scheduler_config=self._scheduler_config,
            denoiser=self._denoiser,
        )
        self.notes += _adapted(self._pipe, self._weights.model, self._lora, self._lora_revision)
        self.compiled.prepare(self._pipe)

    @property
    def pipe(self) -> Any:
        """The loaded pipeline; None before `setup`."""
        return self._pipe

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One RGB picture per prompt; None where the pipeline's safety checker blacked it out."""
        call = {key: value for key, value in self._call.items() if value is not None}
        if self._negative_prompt is not None:
            call["negative_prompt"] = [self._negative_prompt] * len(prompts)
        with self.compiled.batch():
            return finished(self._pipe(prompt=list(prompts), generator=generators(list(seeds)), **call))


class OneStepGenerator:
    """x_0 as a UNet predicts it from sigma_t z at one timestep t, without guidance.

    Score identity distillation with long and short guidance (SiD-LSG) trains such UNets at t = 625: its
    sampler adds noise z at t to a zero picture, asks the UNet once and takes its x_0. A few-step sampler
    would start at another noise level and scale.

    Source: Zhou et al. 2025, arXiv:2406.01561; https://github.com/mingyuanzhou/SiD-LSG (sid_sd_sampler)
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 1,
        guidance: float | None = None,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        lora: str | None = None,
        lora_revision: str | None = None,
        denoiser: str | None = None,
        timestep: int = 625,
        compile: bool = False,
    ) -> None:
        """
        Raises:
            UsageError: more than one step, or a guidance or scheduler: there is nothing to do with them.
        """
        given = {"guidance": guidance, "negative prompt": negative_prompt, "scheduler": scheduler}
        named = [name for name, value in given.items() if value is not None]
        if steps != 1 or named:
            what = named[0] if named else f"{steps} steps"
            raise UsageError(
                f"one-step: takes one step alone, no {what}", "leave it out, or choose another"
            )
        self._weights, self._denoiser = weights, denoiser
        self._size = width, height
        self._lora, self._lora_revision, self._timestep = lora, lora_revision, timestep
        self._pipe: Any = None
        self.notes: list[str] = []
        self._compiled = _Compiled(weights.model, self.notes, asked=compile)

    def setup(self) -> None:
        self._pipe = load_pipeline(self._weights, denoiser=self._denoiser)
        # DDPM's last step returns the predicted x_0; the model's own scheduler may not take a timestep
        self._pipe.scheduler = DDPMScheduler.from_config(self._pipe.scheduler.config, clip_sample=False)
        self.notes += _adapted(self._pipe, self._weights.model, self._lora, self._lora_revision)
        self._compiled.prepare(self._pipe)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One RGB picture per prompt; None where the pipeline's safety checker blacked it out."""
        pipe, rows = self._pipe, generators(list(seeds))
        side = pipe.unet.config.sample_size
        width, height = (given // pipe.vae_scale_factor if given else side for given in self._size)
        noise = randn_tensor((len(rows), pipe.unet.config.in_channels, height, width), generator=rows)
        sigma = (1 - pipe.scheduler.alphas_cumprod[self._timestep]) ** 0.5
        with self._compiled.batch():
            out = pipe(
                prompt=list(prompts),
                latents=(noise * sigma).to(pipe.unet.dtype),
                timesteps=[self._timestep],
                guidance_scale=1.0,
                generator=rows,  # of the step's own noise, which has next to no variance
                width=width * pipe.vae_scale_factor,
                height=height * pipe.vae_scale_factor,
            )
        return finished(out)


class DiffusersRenoiser:
    """The image-to-image form of a text-to-image folder or hub id, on the same weights.

    Source: SDEdit, Meng et al. 2022, arXiv:2108.01073.
    """

    def __init__(
        self, weights: Weights, *, steps: int = 50, guidance: float | None = 7.5, **options: Any
    ) -> None:
        """The options are those of `DiffusersGenerator`; every picture keeps its own size."""
        self._model, self._steps = weights.model, steps
        # a model that takes no guidance says what its pipeline must be told instead
        fixed = (options.get("call") or {}).get("guidance_scale", 1.0)
        self._guidance = fixed if guidance is None else guidance
        self._negative_prompt: str | None = options.get("negative_prompt")
        self._generator = DiffusersGenerator(weights, **options)
        self._pipe: Any = None
        self.notes = self._generator.notes

    def setup(self) -> None:
        self._generator.setup()
        try:
            self._pipe = AutoPipelineForImage2Image.from_pipe(self._generator.pipe)
        except ValueError as error:
            raise RpoError(
                f"{self._model}: diffusers has no image-to-image form of it: {error}",
                "sapo needs one; spin makes its losers from noise alone",
            ) from error
        self._pipe.set_progress_bar_config(disable=True)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def renoise(
        self, pictures: Sequence[Picture], prompts: Sequence[str], seeds: Sequence[int], *, strength: float
    ) -> list[Picture | None]:
        """One picture per picture (all of one size); None where a safety checker blacked it out.

        At least one step is taken: strength times steps, rounded down, would be none at few steps.
        """
        call: dict[str, Any] = {}
        if self._negative_prompt is not None:
            call["negative_prompt"] = [self._negative_prompt] * len(prompts)
        with self._generator.compiled.batch():
            out = self._pipe(
                prompt=list(prompts),
                image=[picture.convert("RGB") for picture in pictures],
                strength=max(strength, 1 / self._steps),
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                generator=generators(list(seeds)),
                **call,
            )
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(prompts)
        return [
            None if flagged else image.convert("RGB")
            for image, flagged in zip(out.images, flags, strict=True)
        ]
