"""examples/benchmarks/seeds.py: its ways, measured on a CPU with a tiny model."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "seeds.py"


def test_ways_are_measured_on_its_own_recipe():
    """Catches: a recipe that the script cannot train, seeds of a stack that count once, a failure without its command."""
    seeds = runpy.run_path(str(SCRIPT), run_name="seeds")
    ways = [seeds["Way"]("one", 1, 1, 1), seeds["Way"]("stacked", 1, 1, 3)]
    flags = "--steps 2 --model gpt2-1x16 --per_device_train_batch_size 4 --num_train 32 --num_test 4 --use_cpu".split()
    one, stacked = seeds["measure"](ways, flags, rounds=1)
    assert one["ratio"] == 1.0
    assert stacked["ratio"] == stacked["rate"] / one["rate"] > 0 < stacked["cpu_ms"][0]
    with pytest.raises(RuntimeError, match=r"cannot be measured; run .*seeds.py --model none --worker .* to see why"):
        seeds["measure"](ways[:1], ["--model", "none"], rounds=1)
