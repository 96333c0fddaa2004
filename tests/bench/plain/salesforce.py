"""The step of Diffusion-DPO as its authors' script is built: nothing is kept from step to step.

VAE and text encoder run within the step, in half precision; winner and loser are one batch; a frozen copy
of the whole denoiser runs beside; micro-batches are accumulated.

Source of the structure: https://github.com/SalesforceAIResearch/DiffusionDPO (train.py); none of the code.
"""

from copy import deepcopy

import torch
from torch.nn.functional import logsigmoid

from tests.bench.plain import denoiser, encode, report, steps


@torch.no_grad()
def inputs(told, pipe, rows, pictures):
    """Noisy latents of winners and losers, what is wanted, timesteps and conditions, all of this step."""
    side = encode.denoiser_side(told.model, 2 ** (len(pipe.vae.config.block_out_channels) - 1))
    shown = [encode.pixels(pictures[row[at]], side) for at in (1, 2) for row in rows]
    given = torch.stack(shown).to(told.device, pipe.vae.dtype)
    clean = (pipe.vae.encode(given).latent_dist.sample() * pipe.vae.config.scaling_factor).float().cpu()
    noise = torch.randn(len(rows), *clean.shape[1:]).repeat(2, 1, 1, 1)
    times = torch.randint(1000, (len(rows),)).repeat(2)
    ids = pipe.tokenizer(
        [row[0] for row in rows],
        padding="max_length",
        truncation=True,
        max_length=pipe.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    hidden = pipe.text_encoder(ids.to(told.device))[0].repeat(2, 1, 1)
    noisy, wanted, times = denoiser.noised(told.model, clean, noise, times)
    return noisy.to(told.device), wanted.to(told.device), times.to(told.device), hidden


def main() -> None:
    told = steps.options(__doc__).parse_args()
    half, kind = report.dtype(told.dtype), torch.device(told.device).type
    pairs, pictures = encode.read(told.dataset)
    pipe = denoiser.encoders(told.model, told.device).to(dtype=half)
    net = denoiser.load(told.model, torch.float32, told.device)
    frozen = deepcopy(net).requires_grad_(False).to(half)
    optimiser = torch.optim.AdamW(net.parameters(), lr=told.learning_rate, weight_decay=1e-2)
    losses, seconds = [], []
    for step in range(told.steps):
        began = report.now(told.device)
        order = [(step * told.global_batch + place) % len(pairs) for place in range(told.global_batch)]
        total = 0.0
        for start in range(0, told.global_batch, told.batch):
            rows = [pairs[place] for place in order[start : start + told.batch]]
            noisy, wanted, times, hidden = inputs(told, pipe, rows, pictures)
            with torch.autocast(kind, half, enabled=half != torch.float32):
                after = net(noisy, times, hidden).sample
                with torch.no_grad():
                    before = frozen(noisy.to(half), times, hidden).sample
            error, kept = ((said.float() - wanted).square().mean((1, 2, 3)) for said in (after, before))
            (win, lose), (win_0, lose_0) = error.chunk(2), kept.chunk(2)
            loss = -logsigmoid(-told.beta / 2 * ((win - lose) - (win_0 - lose_0))).sum() / told.global_batch
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(total)
        seconds.append(report.now(told.device) - began)
    report.ended(losses, seconds=seconds)


if __name__ == "__main__":
    main()
