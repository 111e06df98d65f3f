"""examples/benchmarks/cuda_check.py: its parts on a CPU with tiny models; a planted kernel that is wrong must be
found."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from transformers.models.mamba import modeling_mamba

from nt_failures.objectives import OBJECTIVES, NextToken

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "cuda_check.py"


@pytest.fixture(scope="module")
def check():
    return runpy.run_path(str(SCRIPT), run_name="check")


def test_without_a_gpu_it_says_so(check, tmp_path, monkeypatch):
    """Catches: figures of a CPU as those of a GPU, an exit code of 0, a traceback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:  # with a text as code: it goes to stderr, and the exit code is 1
        check["main"]([])
    assert stop.value.code == "cuda_check: torch finds no CUDA device on this machine, so nothing was checked."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("scale", "agree"), [(1.0, True), (1.01, False)])
def test_a_wrong_kernel_is_found(check, monkeypatch, scale, agree):
    """Catches: one path compared with itself; a loss that is compared and gradients that are not."""
    right = modeling_mamba.causal_conv1d_fn

    def kernel(*args, **kwargs):
        return scale * right(*args, **kwargs)

    kernel.__wrapped__ = right.__wrapped__
    monkeypatch.setattr(modeling_mamba, "causal_conv1d_fn", kernel)
    found = check["kernels_against_torch"]("mamba-1x16", "cpu")
    assert (found["kernel_loss"] == found["torch_loss"]) is agree
    assert (found["gradients"] == 0.0) is agree
    assert modeling_mamba.causal_conv1d_fn is kernel


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_can_be_compared(check, name):
    """Catches: an objective that the check cannot build, a batch or a dropout that differs from pass to pass."""
    forms = {form: check["CHECKED"][form] for form in ("eager", "sdpa", "bf16")}
    found = check["of_objective"](name, "cpu", "gpt2-2x16", forms)
    assert found["eager"] == {"loss": 0.0, "gradients": 0.0}
    assert not any(map(check["is_wrong"], found, found.values()))
    assert found["bf16"]["gradients"] > 100 * found["sdpa"]["gradients"]


def test_a_wrong_gradient_is_found(check, monkeypatch):
    """Catches: a loss that is compared and a gradient that is not, NaN that passes for agreement."""
    right = NextToken.loss

    def bent(self, model, batch):
        loss = right(self, model, batch)
        bend = sum((p - p.detach()).sum() for p in model.parameters())  # 0, with a gradient of 1
        return loss._replace(sum=loss.sum + bend * (model.config._attn_implementation == "sdpa"))

    monkeypatch.setattr(NextToken, "loss", bent)
    found = check["of_objective"]("next_token", "cpu", "gpt2-2x16", {"eager": {"attention": "eager"}, "sdpa": {}})
    assert not check["is_wrong"]("eager", found["eager"])
    assert check["is_wrong"]("sdpa", found["sdpa"])
    assert found["sdpa"]["loss"] < 1e-6
    assert check["is_wrong"]("bf16", {"loss": 0.0, "gradients": math.nan})
    assert check["is_wrong"]("bf16", {"loss": math.nan, "gradients": 0.0})
    page = check["markdown"](
        {"device": "D", "torch": "2", "objectives": {"next_token": found}, "kernels": None, "models": []}
    )
    assert "| next_token | 0e+00 / 0e+00 | **" in page


def test_a_model_is_measured_in_every_form(check):
    """Catches: forms that are compared with nothing, a page without a row, shares of a peak that is not known."""
    forms = {"fp32": {}, "bf16": {"bf16": True}}
    found = check["of_model"]("gpt2-1x16", "cpu", 8, 8, forms)
    plain, half = found["forms"].values()
    assert plain["largest_difference_of_losses"] == 0.0 < half["largest_difference_of_losses"] < 0.05
    assert (plain["precision"], half["precision"], plain["mfu"]) == ("fp32", "bf16", None)
    assert len(plain["losses"]) == 8
    assert min(min(form["ms_raw_loop"], form["ceiling"]) for form in found["forms"].values()) > 0
    page = check["markdown"]({"device": "D", "torch": "2", "objectives": {}, "kernels": None, "models": [found]})
    assert page.count("\n| gpt2-1x16 | ") == 2
    assert "not installed" in page


def test_what_limits_a_step(check):
    """Catches: a loader that starves the device called the device's own limit."""
    limit = check["limit"]
    assert limit(step=10.0, half_step=5.2, raw=9.0) == "the device"
    assert limit(step=10.0, half_step=9.5, raw=9.0) == "starting kernels"
    assert limit(step=10.0, half_step=5.2, raw=5.0).startswith("what a raw loop has not")


def test_its_models_can_be_built(check):
    """Catches: a size with a typo, which a GPU machine would find after minutes; no weight is allocated here."""
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in check["build"](name)[0].parameters()) for name in check["MODELS"]}
    assert 7e8 < counts["gpt2-36x1280"] < 8e8
    assert 2e7 < counts["gpt2-12x384"] < 2.5e7
    assert set(check["KERNELS"]) <= set(vars(modeling_mamba))
