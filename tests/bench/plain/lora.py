"""LoRA on the attention projections, trained by Diffusion-DPO on a folder of pairs."""

from contextlib import contextmanager

from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file

from tests.bench.plain import checkpoint, denoiser, report, steps

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
JOINT = [*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]  # the captions' side too


def start(told, net) -> None:
    """Weights of the adapter's first matrices as a file says; the second ones are zero anyway."""
    with safe_open(told.draws, "pt") as file:
        for name, value in net.named_parameters():
            if "lora_A" in name:
                value.data.copy_(file.get_tensor(name))


def main() -> None:
    told = steps.options(__doc__).parse_args()
    net = denoiser.load(told.model, report.dtype(told.dtype), told.device)
    net.requires_grad_(False)
    targets = JOINT if denoiser.kind(told.model) == "sd3" else ATTENTION
    rank = told.rank
    net.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
    )
    parameters = [value for value in net.parameters() if value.requires_grad]
    for value in parameters:
        value.data = value.data.float()
    if told.draws:
        start(told, net)

    @contextmanager
    def reference():
        net.disable_adapters()
        yield net
        net.enable_adapters()

    found = steps.train(told, net, reference, parameters)
    told.out.mkdir(parents=True, exist_ok=True)
    checkpoint.save(told.out / "checkpoint.safetensors", net, found.pop("optimiser"))
    adapter = {name: value.contiguous() for name, value in get_peft_model_state_dict(net).items()}
    save_file(adapter, told.out / "pytorch_lora_weights.safetensors")
    report.ended(**found)


if __name__ == "__main__":
    main()
