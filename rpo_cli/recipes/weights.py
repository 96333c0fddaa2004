"""Licence, download and parameters of the hub's models that presets name, each with its source.

A download counts the safetensors files that loading asks the hub for. Nothing was downloaded where this was
written: numbers are those of the hub's file lists, or of parameters counted on an empty model.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class HubModel:
    """Of one hub id.

    Attributes:
        download: bytes. `parameters`: numbers that loading keeps in memory.
        side: pixels of the square pictures it draws, where it draws.
        licensed: where the licence was read.
    """

    license: str
    download: int
    parameters: int
    source: str
    side: int | None = None
    licensed: str = "its card"

    def memory(self, itemsize: int) -> int:
        """Bytes of the weights alone, at so many bytes a number."""
        return self.parameters * itemsize


_SD1 = "file lists of copies: UNet 3.44 GB, safety checker 1.22, text encoder 0.49, VAE 0.33"
_QWEN3_VL = "the file list of a model tuned from it: 5.00 + 4.92 + 4.92 + 2.70 GB"

HUB_MODELS: dict[str, HubModel] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": HubModel(
        "CreativeML OpenRAIL-M", 5_480_000_000, 1_370_000_000, _SD1, side=512
    ),
    "timbrooks/instruct-pix2pix": HubModel("MIT", 5_480_000_000, 1_370_000_000, _SD1, side=512),
    "stabilityai/stable-diffusion-xl-base-1.0": HubModel(
        "CreativeML OpenRAIL++-M",
        13_900_000_000,
        3_470_000_000,
        "its file list: UNet 10.3 GB, text encoder 2.78, VAE 0.33; the smaller encoder as SD 1.5's, 0.49",
        side=1024,
    ),
    "stabilityai/stable-diffusion-3.5-medium": HubModel(
        "Stability AI Community",
        16_300_000_000,
        8_130_000_000,
        "the file list of a copy: T5 9.52 GB, transformer 4.94, CLIPs 1.39 and 0.25, VAE 0.17",
        side=1024,
    ),
    "black-forest-labs/FLUX.2-klein-4B": HubModel(
        "Apache-2.0",
        16_200_000_000,
        8_110_000_000,
        "its file list: text encoder 8.05 GB; VAE 0.17 of a copy; transformer about 8, the 4B of its name",
        side=1024,
    ),
    "Qwen/Qwen3-VL-8B-Instruct": HubModel("Apache-2.0", 17_500_000_000, 8_770_000_000, _QWEN3_VL),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": HubModel(
        "Apache-2.0",
        16_100_000_000,
        8_030_000_000,
        "the page of a model tuned from it: 8.03 billion parameters in BF16",
    ),
    "openai/clip-vit-large-patch14": HubModel(
        "MIT",
        1_710_000_000,
        428_000_000,
        "the file list of a copy: 1.71 GB of float32",
        licensed="the repository openai/CLIP",
    ),
}
