"""examples/benchmarks/cuda_speed.py: its parts on a CPU with tiny models."""

import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "cuda_speed.py"


@pytest.fixture(scope="module")
def speed():
    return runpy.run_path(str(SCRIPT), run_name="speed")


def test_a_model_is_measured_in_every_form(speed):
    """Catches: forms that are compared with nothing, a page without a row, shares of a peak that is not known."""
    forms = {"fp32": {}, "bf16": {"bf16": True}}
    found = speed["of_model"]("gpt2-1x16", "cpu", 8, 8, forms)
    plain, half = found["forms"].values()
    assert plain["largest_difference_of_losses"] == 0.0 < half["largest_difference_of_losses"] < 0.05
    assert (plain["precision"], half["precision"], plain["mfu"]) == ("fp32", "bf16", None)
    assert len(plain["losses"]) == 8
    assert min(min(form["ms_raw_loop"], form["product"]) for form in found["forms"].values()) > 0
    page = speed["markdown"]({"device": "D", "versions": {"torch": "2"}, "models": [found]})
    assert page.count("\n| gpt2-1x16 | ") == 2


def test_what_limits_a_step(speed):
    """Catches: a loader that starves the device called the device's own limit."""
    limit = speed["limit"]
    assert limit(step=10.0, half_step=5.2, raw=9.0) == "the device"
    assert limit(step=10.0, half_step=9.5, raw=9.0) == "starting kernels"
    assert limit(step=10.0, half_step=5.2, raw=5.0).startswith("what a raw loop has not")


def test_its_models_can_be_built(speed):
    """Catches: a size with a typo, which a GPU machine would find after minutes; no weight is allocated here."""
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in speed["build"](name)[0].parameters()) for name in speed["MODELS"]}
    assert 7e8 < counts["gpt2-36x1280"] < 8e8
    assert 2e7 < counts["gpt2-12x384"] < 2.5e7


def test_steps_that_are_all_warm_up_are_refused(speed, capsys):
    """Catches: a traceback behind the first training, minutes into the time on a GPU."""
    with pytest.raises(SystemExit):
        speed["main"](["--steps", "2"])
    assert "--steps 2 leaves none to measure" in capsys.readouterr().err
