"""Training on a model in one file makes the bytes of training on its folder."""

from diffusers import DiffusionPipeline
from safetensors import safe_open

from rpo_cli.train.export.lora_files import LORA_FILE
from tests import original_layout


def tensors(report):
    with safe_open(report.adapter / LORA_FILE, "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118, no mapping


def test_a_training_on_one_file_ends_with_its_folders_weights(run_train, model, tmp_path):
    file = original_layout.write(DiffusionPipeline.from_pretrained(model), tmp_path / "sd.safetensors")
    original_layout.configure(model, tmp_path / "sd")

    of_file = run_train("file", model=str(file), cache=tmp_path / "cache", export=["kohya"])
    of_folder = run_train("folder")
    assert tensors(of_file) == tensors(of_folder)
    assert (of_file.adapter / "kohya").is_dir()
