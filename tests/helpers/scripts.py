"""The scripts of examples/ as modules, and a recipe that they run in seconds."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDIES = EXAMPLES / "studies"

TINY = """
task: path_star
degree: 2
path_length: 4
num_nodes: 12
num_train: 64
num_validation: 16
num_test: 32
model: gpt2-1x16
max_steps: 4
per_device_train_batch_size: 8
per_device_eval_batch_size: 32
eval_strategy: steps
eval_steps: 2
save_strategy: "no"
sample_rows: 0
use_cpu: true
disable_tqdm: true
"""
"""No objective: the test says which."""


def load(path):
    """A script as a fresh module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
