"""A normal run says nothing that its user can do nothing about."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import TINY

ROOT = Path(__file__).parents[2]
RUN = """
import shutil
from pathlib import Path
from scripts import EXAMPLES, load
train, diagnose = load(EXAMPLES / "train.py").main, load(EXAMPLES / "diagnose.py").main
for name, flags in FLAGS.items():
    words = ["tiny.yaml", *flags, "--output_dir", name, "--save_strategy", "steps", "--save_steps", "2"]
    train(words)
    for path in Path(name).iterdir():  # as if it had been stopped
        if path.is_file() and path.name != "arguments.json":
            path.unlink()
    shutil.rmtree(f"{name}/checkpoint-4")
    train([*words, "--resume"])
    diagnose([name, "--num_test", "20", "--output_dir", f"{name}-diagnosis"])
import transformers.integrations.hub_kernels as kernels, transformers.modeling_utils as loading
kernels.logger.warning("of kernels, another")
loading.logger.warning("of loading, another")
"""
FLAGS = {
    "gpt2": ["--objective", "multi_token_heads", "--gradient_checkpointing", "true"],
    "gpt_neox": ["--model", "gpt_neox-1x16"],
    "mamba": ["--model", "mamba-1x16"],
    "mamba2": ["--model", "mamba2-1x64"],
    "drafts": ["--model", "llama-1x16", "--objective", "sequential_heads"],
}
FLAGS["drafts"] += ["--objective_options", '{"form": "transformers"}']


@pytest.mark.slow
def test_train_resume_and_diagnose_warn_of_nothing(tmp_path):
    """Catches: `missing keys` of tied weights and of modules in a file of their own, `falling back` of a Mamba where no
    kernel could run, a report on layers that are read later, a name of an argument that is going; and other warnings
    lost with these."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": paths, "HF_HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": ""}
    code = f"FLAGS = {FLAGS!r}\n{RUN}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.findall(r"^.*(?:\[\w+\] |[Ww]arn|WARN).*$", done.stderr.replace("\r", "\n"), flags=re.MULTILINE)
    assert said == ["[transformers] of kernels, another", "[transformers] of loading, another"]
