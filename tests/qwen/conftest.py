"""Processors that need torchvision, beside a CPU build of torch: `make test-qwen`.

PyPI's torchvision is built for CUDA, so its C++ operators do not load here and its import fails at two that
it declares more about. Nothing of ours calls them; once they are declared, everything that is Python works.
A torchvision that fits its torch is left alone: it declares them itself.
"""

import os

import torch

if os.environ.get("RPO_QWEN"):
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision  # noqa: F401, before a library tries to
