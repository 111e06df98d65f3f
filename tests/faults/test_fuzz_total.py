"""How many cases are generated in all: each fuzz test checks that it ran as many as it declares, this one their sum."""

import importlib
from pathlib import Path

import fuzzing


def test_at_least_20_000_cases():
    """Catches: fuzz tests that were thinned out until they find nothing."""
    for path in Path(__file__).parent.glob("test_fuzz_*.py"):
        importlib.import_module(path.stem)
    assert sum(fuzzing.DECLARED.values()) >= 20_000
