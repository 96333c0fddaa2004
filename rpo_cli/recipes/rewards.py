"""The rewards: version and preprocessing of each scorer, and the weights it is known with."""

from dataclasses import dataclass

from rpo_cli import registry
from rpo_cli.recipes.kinds import KnownModel

# framing is PIL's on every machine, also where torchvision is installed
CENTRED = "clip-centre-pil-1"
WHOLE = "longest-side-black-pil-1"
WHOLE_448 = "qwen2-vl-200704-pixels-pil-1"


@dataclass(frozen=True)
class Scorer:
    """What of a reward's own code determines its scores, and so is part of a row's key.

    Attributes:
        version: changed with anything that changes scores; "" for rewards older than versions.
        preprocessing: how a picture is framed and scaled.
        models: weights with licence, and memory where its source is named.
        usable: what a user must do before the published weights can be used.
        pickled: hub ids that hold nothing but pickles; `bare`: weights alone, without a configuration.
        files: that a folder must hold beside configuration and weights.
        file: the published pickle.
        conversion: how to make a folder from what is published.
    """

    version: str = ""
    preprocessing: str = ""
    models: tuple[KnownModel, ...] = ()
    usable: str = ""
    pickled: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    file: str = ""
    conversion: str = ""

    def converted_from(self, place: str) -> str:
        """`conversion` with the user's own path of the published pickle."""
        return self.conversion.replace(self.file, place) if self.file and place else self.conversion

    def settings(self) -> dict[str, str]:
        """Of the settings of a row; nothing for rewards whose keys must stay what they are."""
        return {"scorer": self.version, "preprocessing": self.preprocessing} if self.version else {}


CLIP_L = KnownModel("openai/clip-vit-large-patch14", "MIT (the repository openai/CLIP)")

SCORERS: dict[str, Scorer] = {
    "clip": Scorer(models=(CLIP_L,)),
    "clipscore": Scorer("clipscore-1", CENTRED, models=(CLIP_L,)),
    "pickscore": Scorer(
        "pickscore-1",
        CENTRED,
        models=(KnownModel("yuvalkirstain/PickScore_v1", "none on its card; its code is MIT"),),
    ),
    "hpsv2.1": Scorer(
        "hpsv2.1-1",
        WHOLE,
        models=(KnownModel("xswu/HPSv2", "Apache-2.0 (its card)", "weights of 3.9 GB (RE-N-Y/hpsv21)"),),
        usable="published as a pickle: rpo convert makes safetensors (the error says how)",
        pickled=("xswu/HPSv2",),
        file="HPS_v2.1_compressed.pt",
        conversion=(
            "hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K --include '*.json' --include '*.txt' "
            "--local-dir hpsv2.1 && rpo convert HPS_v2.1_compressed.pt hpsv2.1/model.safetensors, then "
            "--reward hpsv2.1=hpsv2.1 (OpenCLIP's names are understood)"
        ),
    ),
    "imagereward": Scorer(
        "imagereward-1",
        CENTRED,
        models=(
            KnownModel("THUDM/ImageReward", "Apache-2.0 (its card)", "weights of 1.79 GB (its file list)"),
        ),
        usable="published as a pickle: rpo convert makes safetensors (the error says how)",
        pickled=("THUDM/ImageReward", "zai-org/ImageReward"),
        file="ImageReward.pt",
        conversion=(
            "hf download google-bert/bert-base-uncased --include 'tokenizer*' --include vocab.txt "
            "--local-dir imagereward && echo {} > imagereward/config.json && "
            "rpo convert ImageReward.pt imagereward/model.safetensors, then "
            "--reward imagereward=imagereward"
        ),
    ),
    "aesthetic": Scorer(
        "aesthetic-1",
        CENTRED,
        models=(
            KnownModel(
                "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE",
                "none on its page; a port of the same weights says Apache-2.0",
                "305M parameters (its page)",
            ),
        ),
    ),
    "hpsv3": Scorer(
        "hpsv3-1",
        WHOLE_448,
        models=(KnownModel("MizzenAI/HPSv3", "MIT (its repository)", "weights of 16.6 GB (a port of it)"),),
        usable="published as weights alone, to be made into a folder first (the error says how)",
        bare=("MizzenAI/HPSv3",),
        files=("instruction.txt",),
        conversion=(
            "download Qwen/Qwen2-VL-7B-Instruct without its weights as a folder, put HPSv3.safetensors "
            "into it as model.safetensors, and into instruction.txt what INSTRUCTION and "
            "prompt_with_special_token of hpsv3/dataset/data_collator_qwen.py (github.com/MizzenAI/HPSv3) "
            "say, one after the other"
        ),
    ),
    "vqascore": Scorer(usable="asks a VLM: `rpo list critics`"),
    "judge": Scorer(usable="asks a VLM: `rpo list critics`"),
}


def scorer(reward: str) -> Scorer:
    """Of a reward of ours, of one that a third party declares, or of one of which nothing is known."""
    if reward in SCORERS:
        return SCORERS[reward]
    own: Scorer | None = None
    if reward in registry.names("rewards"):
        own = registry.entry("rewards", reward).recipe
    return own or Scorer()
