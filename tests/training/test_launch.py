"""Launchers and config files: what was asked for is what runs, or it is said.

Really launched are one_process.yaml (here), cpu_2.yaml (test_distributed.py), fsdp2.yaml (test_fsdp.py), and one
process instead of two (tests/examples/test_train.py).
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from nt_failures.training.arguments import launch_note, needs_cpu

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = sorted((EXAMPLES / "accelerate_configs").glob("*.yaml"))
LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_hold_nothing_unknown(path):
    """Catches: a key that accelerate does not know, which it refuses at the top and passes over in silence below."""
    config = load_config_from_file(str(path))  # a ValueError names unknown keys
    flags = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) <= flags
    assert config.num_processes == (1 if config.distributed_type.value == "NO" else 2)
    assert config.mixed_precision == ("no" if path.stem in ("cpu_2", "one_process") else "bf16")


def test_there_are_configs():
    """Catches: a scan of the wrong folder."""
    assert [path.stem for path in CONFIGS] == ["cpu_2", "fsdp2", "multi_gpu", "one_process", "single_gpu"]


@pytest.mark.slow
def test_one_process_is_launched_in_silence():
    """Catches: six lines of the launcher's before each run, a traceback of its own behind an error of one line, or
    success told of a run that was refused."""
    page = (EXAMPLES / "recipes" / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^accelerate (launch -q --config_file .*)$", page, flags=re.MULTILINE)
    words = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *command.split(), "--max_step", "3"]
    done = subprocess.run(words, cwd=EXAMPLES.parent, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: command line: unknown name 'max_step'.")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("environment", "world_size", "told"),
    [
        ({}, 1, False),
        (MEETING, 1, False),
        (LAUNCHED, 1, False),
        (LAUNCHED | MEETING, 1, True),
        (LAUNCHED | MEETING | {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 2, False),
    ],
)
def test_who_is_told(environment, world_size, told):
    """Catches: a note to those who asked for one process, or who have two."""
    assert (launch_note("train.py", world_size, environment) is not None) is told


@pytest.mark.parametrize(
    ("environment", "device", "needed"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, None, True),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, torch.device("mps"), True),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, torch.device("cuda"), False),
        ({"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None, False),
        ({"WORLD_SIZE": "2"}, None, False),
        ({}, None, False),
    ],
)
def test_who_needs_the_cpu(environment, device, needed, monkeypatch):
    """Catches: GPUs left idle, one process told to train on the CPU, a cluster's variable taken for a launcher,
    torch's build for GPUs taken for a GPU."""

    def current(check_available=False):  # torch's build for GPUs says cuda on any machine, unless it is told to look
        return device if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current)
    assert needs_cpu(environment) is needed
