"""Processors that need torchvision, beside a CPU build of torch: `make test-qwen`.

PyPI's torchvision is built for CUDA, so its C++ operators do not load here and its import fails at two that
it declares more about. Nothing of ours calls them; once they are declared, everything that is Python works.
"""

from importlib.util import find_spec

import torch

if find_spec("torchvision") is not None:
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision  # noqa: F401, before a library tries to
