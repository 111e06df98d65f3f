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
    assert check["are_wrong"](found) is not agree
    assert modeling_mamba.causal_conv1d_fn is kernel


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_can_be_compared(check, name):
    """Catches: an objective that the check cannot build, a batch or a dropout that differs from pass to pass."""
    forms = {form: check["FORMS"][form] for form in ("eager", "sdpa", "bf16")}
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
        {"device": "D", "versions": {"torch": "2"}, "objectives": {"next_token": found}, "kernels": None}
    )
    assert "| next_token | 0e+00 / 0e+00 | **" in page
    assert "not installed" in page


@pytest.mark.parametrize("name", ["next_token", "registers"])
def test_a_mask_that_is_ignored_is_found(check, monkeypatch, name):
    """Catches: rows that are all of one length, where a kernel that sees the padding goes unnoticed."""
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def without_mask(*args, attn_mask=None, is_causal=False, **kwargs):
        return sdpa(*args, is_causal=True, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", without_mask)
    found = check["of_objective"](name, "cpu", "gpt2-2x16", {"bf16": {"bf16": True}})
    assert check["is_wrong"]("bf16", found["bf16"])


def test_a_form_that_fails_takes_no_other_along(check, monkeypatch):
    """Catches: minutes on a GPU that end with the first error, an error that passes for agreement."""

    def broken(self, **options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    found = check["of_objective"]("next_token", "cpu", "gpt2-2x16", {"compiled": {"compiled": True}, "sdpa": {}})
    assert found["compiled"]["error"] == "RuntimeError: no compiler"
    assert [check["is_wrong"](form, found[form]) for form in found] == [True, False]


def test_the_kernels_have_their_names(check):
    """Catches: a kernel that transformers calls otherwise by now, and that stays in the path of torch."""
    assert set(check["KERNELS"]) <= set(vars(modeling_mamba))
