"""examples/benchmarks/seeds.py: its ways, measured on a CPU with a tiny model."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "seeds.py"


def test_ways_are_measured_on_its_own_recipe():
    """Catches: a recipe that the script cannot train, processes that count once, a failure without its command."""
    seeds = runpy.run_path(str(SCRIPT), run_name="seeds")
    ways = [seeds["Way"]("one", 1, 1), seeds["Way"]("two", 2, 1)]
    flags = ["--steps", "2", "--model", "gpt2-1x16", "--per_device_train_batch_size", "4", "--use_cpu"]
    flags += ["--num_train", "32", "--num_test", "4"]
    one, two = seeds["measure"](ways, flags, rounds=1)
    assert one["ratio"] == 1.0
    assert two["ratio"] == two["rate"] / one["rate"] > 0 < two["cpu_ms"][0]
    with pytest.raises(ChildProcessError, match=r"cannot be measured; .*seeds.py --model none --worker shows why"):
        seeds["measure"](ways[:1], ["--model", "none"], rounds=1)
