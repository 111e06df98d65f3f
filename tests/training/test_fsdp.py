"""FSDP 2: examples/accelerate_configs/fsdp2.yaml really shards, here over two processes on the CPU (fsdp_on_cpu.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fsdp_on_cpu
import pytest
import torch
from safetensors.torch import load_file

import nt_failures

CONFIG = Path(__file__).parents[2] / "examples" / "accelerate_configs" / "fsdp2.yaml"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The folder that two processes have left, and what both of them have found."""
    folder = tmp_path_factory.mktemp("sharded")
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    launch += ["--mixed_precision", "no", "--main_process_port", "0"]
    command = [*launch, fsdp_on_cpu.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)], done.stdout


def test_shards_train_evaluate_and_resume_as_one_process(sharded, tmp_path):
    """Catches: modules of an objective that are used outside of the sharded forward pass; an optimizer that steps
    weights which are no longer there; a loss divided by one process's labels; rows that fill the last batch counted."""
    _, both, _ = sharded
    for found in both:
        assert found["world"] == [2, "DistributedType.FSDP", True]
        for name, (objective, optimizer) in fsdp_on_cpu.RUNS.items():
            expected = fsdp_on_cpu.record(fsdp_on_cpu.build(tmp_path / name, objective, optimizer))
            assert found[name]["losses"] == pytest.approx(expected["losses"], rel=1e-3)
            assert found[name]["metrics"] == pytest.approx(expected["metrics"], rel=1e-3)
            assert found[name]["resumed"] == found[name]["losses"]


def test_what_is_saved_is_whole_and_stock(sharded, tmp_path):
    """Catches: a shard saved as the model, modules lost, a checkpoint that is never sealed."""
    folder, _, _ = sharded
    for name, (objective, optimizer) in fsdp_on_cpu.RUNS.items():
        trainer = fsdp_on_cpu.build(tmp_path / name, objective, optimizer)
        trainer.train()
        trainer.save_model()
        for file in (tmp_path / name).glob("*.safetensors"):
            torch.testing.assert_close(
                load_file(folder / name / file.name), load_file(file), rtol=0, atol=2e-2
            )  # AdamW steps noise, too
        assert nt_failures.load(str(folder / name)).task == fsdp_on_cpu.TASK
        assert (folder / name / "checkpoint-3" / "manifest.json").exists()


def test_a_nan_in_one_shard_is_everybodys(sharded):
    """Catches: one process that stops and leaves the others waiting for it."""
    assert [found["finite"] for found in sharded[1]] == [[True, False], [True, False]]


def test_a_finished_checkpoint_is_said_to_be_one(sharded):
    """Catches: the error about `Accelerator.prepare` from inside."""
    assert all("--max_steps" in found["finished"] and "diagnose.py" in found["finished"] for found in sharded[1])


def test_the_example_runs_sharded(sharded):
    """Catches: samples, a diagnosis or a card that one process alone asks of a sharded model, and waits for ever."""
    folder, _, out = sharded
    results = json.loads((folder / "example" / "results.json").read_text(encoding="utf-8"))
    assert (results["n"], results["examples"]) == (9, 16)
    assert out.count("n = 9 different held-out graphs,") == 1
    assert (folder / "example" / "README.md").exists()
    assert nt_failures.load(str(folder / "example")).objective.order == "forward"
