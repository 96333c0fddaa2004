"""Every weight of the denoiser, trained by Diffusion-DPO on a folder of pairs; beside a frozen copy."""

from contextlib import nullcontext
from copy import deepcopy

import torch

from tests.bench.plain import checkpoint, denoiser, report, steps


def main() -> None:
    told = steps.options(__doc__).parse_args()
    net = denoiser.load(told.model, torch.float32, told.device)
    frozen = deepcopy(net).requires_grad_(False)
    net.requires_grad_(True)
    found = steps.train(told, net, lambda: nullcontext(frozen), list(net.parameters()))
    told.out.mkdir(parents=True, exist_ok=True)
    checkpoint.save(told.out / "checkpoint.safetensors", net, found.pop("optimiser"))
    net.save_pretrained(told.out)
    report.ended(**found)


if __name__ == "__main__":
    main()
