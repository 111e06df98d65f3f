"""The torch scan: the function and gradients of transformers' own, and a switch that touches one model only."""

import copy
import json
import runpy
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, MambaConfig, MambaForCausalLM
from transformers.models.mamba.modeling_mamba import MambaMixer

from nt_failures.experiments import command_line
from nt_failures.hub.load import load
from nt_failures.models import mamba_scan
from nt_failures.models.families import SCANS
from nt_failures.models.load import load_model
from nt_failures.models.mamba_scan import TorchScanMixer, running, use_scan
from nt_failures.models.selective_scan import selective_scan
from nt_failures.objectives import auxiliary_modules
from nt_failures.training.flops import StepFlops

ROWS = 4
EXAMPLES = Path(__file__).parents[2] / "examples"
SHAPES = [  # positions, hidden size, layers, states, convolution kernel
    (1, 8, 1, 4, 4),
    (2, 8, 2, 3, 4),
    (3, 12, 1, 5, 2),
    (5, 16, 2, 1, 4),
    (17, 8, 2, 16, 4),
]


def pair(hidden=16, layers=2, states=4, kernel=4, **config):
    """A stock model with every parameter drawn at random, and its copy with this library's scan."""
    torch.manual_seed(0)
    tokens = {"vocab_size": 15, "bos_token_id": 14, "eos_token_id": 14, "pad_token_id": 14}
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "state_size": states, "conv_kernel": kernel}
    stock = MambaForCausalLM(MambaConfig(**sizes, **tokens, **config))
    with torch.no_grad():
        for name, parameter in stock.named_parameters():
            spread = 0.5 if parameter.ndim > 1 and "A_log" not in name else 0.2
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    ours = copy.deepcopy(stock)
    use_scan(ours, "torch")
    return stock.train(), ours.train()


def padded(positions):
    """A mask with a whole row, a left-padded one, a right-padded one, and one that is padding only."""
    mask = torch.ones(ROWS, positions, dtype=torch.long)
    mask[1, : positions // 2] = mask[2, positions - positions // 3 :] = mask[3] = 0
    return mask


def gradients(call, module, inputs):
    """Output, and gradients of the input and of all parameters, of an uneven sum over the output."""
    inputs = inputs.clone().requires_grad_()
    found = call(inputs)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    (found * weights).sum().backward()
    return {"output": found, "input": inputs.grad} | {name: p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("positions", "hidden", "layers", "states", "kernel"), SHAPES)
def test_layers_are_exact(positions, hidden, layers, states, kernel, masked, monkeypatch):
    """Catches: any other function than transformers' own, in 64 bits, by its input and by every parameter.

    Both round to 32 bits on the way, which could make a last bit of 53 a difference of 1e-7; without rounding, 1e-11 is
    ample for sums in another order.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    mask = padded(positions) if masked else None
    inputs = torch.randn(ROWS, positions, hidden, dtype=torch.float64)
    found, expected = (
        gradients(lambda x, mixer=mixer: mixer(x, attention_mask=mask), mixer, inputs)
        for mixer in (model.double().backbone.layers[0].mixer for model in pair(hidden, 1, states, kernel))
    )
    assert len(found) == 11
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("positions", "hidden", "layers", "states", "kernel"), SHAPES)
def test_models_are_exact(positions, hidden, layers, states, kernel, masked):
    """Catches: a layer that is not switched, or rounded where transformers does not round.

    transformers' norms and residuals are in 32 bits even in a model of 64, hence the tolerance.
    """
    mask = padded(positions) if masked else None
    inputs = torch.randn(ROWS, positions, hidden, dtype=torch.float64)
    models = pair(hidden, layers, states, kernel, use_bias=True)
    assert [running(model) for model in models] == [
        "Mamba scan: transformers' own torch scan",
        "Mamba scan: nt_failures' torch scan",
    ]
    expected, found = (
        gradients(lambda x, model=model: model(inputs_embeds=x, attention_mask=mask).logits, model, inputs)
        for model in (model.double() for model in models)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def operands(positions=7):
    """What the scan itself takes, 64 bits, as views that are not contiguous."""
    torch.manual_seed(0)
    wide, narrow = (torch.randn(2, ROWS, size, positions, dtype=torch.float64).mT for size in (5, 3))
    rates = -torch.rand(3, 5, dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in (wide[0].abs(), wide[1], rates, *narrow)]


@pytest.mark.parametrize("positions", [1, 2, 4, 5, 7])
def test_gradients_by_finite_differences(positions):
    """Catches: a backward pass that shares a mistake with transformers', or one at the seam of two kept states."""
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x)[0], operands(positions))


def test_operators_are_declared_right():
    """Catches: shapes or strides said to torch.compile that are others than those computed."""
    tensors = operands()
    torch.library.opcheck(torch.ops.nt_failures.selective_scan, (*tensors, True))
    torch.library.opcheck(torch.ops.nt_failures.selective_scan, (*[t.detach() for t in tensors], False))
    with torch.no_grad():
        y, _, kept = torch.ops.nt_failures.selective_scan(*tensors, True)
        torch.library.opcheck(torch.ops.nt_failures.selective_scan_backward, (y, *[t.detach() for t in tensors], kept))


def test_compiled():
    """Catches: a graph that torch.compile cannot trace whole, or that has lost the gradient."""
    _, ours = pair(8, 1)
    ids = torch.randint(15, (ROWS, 6))
    ours(ids, labels=ids).loss.backward()
    expected = {name: p.grad.clone() for name, p in ours.named_parameters()}
    ours.zero_grad()
    torch._dynamo.reset()
    torch.compile(ours, backend="aot_eager", fullgraph=True)(ids, labels=ids).loss.backward()
    torch.testing.assert_close({name: p.grad for name, p in ours.named_parameters()}, expected)


def test_autocast():
    """Catches: states rounded to 16 bits: the error against 32 bits is at most that of transformers' own scan."""
    stock, ours = pair(16, 2, 8)
    ids = torch.randint(15, (16, 24))

    def learn(model, bf16):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = model(ids, labels=ids)
        found.loss.backward()
        return torch.cat([found.logits.flatten(), *(p.grad.flatten() for p in model.parameters())]).detach()

    exact = learn(stock, bf16=False)
    errors = [(learn(model, bf16=True) - exact).norm() / exact.norm() for model in (stock, ours)]
    assert 0 < errors[1] < 1.1 * errors[0] < 0.1
    assert ours.backbone.layers[0].mixer.A_log.grad.dtype == torch.float32


@torch.no_grad()
def test_generation():
    """Catches: a cache filled with other states than one pass has, with and without padding to the left."""
    stock, ours = (model.eval() for model in pair())
    ids = torch.randint(14, (ROWS, 6))
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    expected = stock.generate(ids, use_cache=False, **options)
    assert len(expected[:, 6:].unique()) > 3
    assert torch.equal(ours.generate(ids, use_cache=True, **options), expected)
    assert torch.equal(ours.generate(ids, use_cache=False, **options), expected)
    left = torch.cat([torch.full((ROWS, 3), 14), ids], dim=1)
    mask = (left != 14).long()
    mask[:, 3:] = 1
    for use_cache in (True, False):
        found = ours.generate(left, attention_mask=mask, use_cache=use_cache, **options)
        assert torch.equal(found[:, 3:], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["cache_params", "cache"])
def test_a_cache_by_its_name_in_any_version(name):
    """Catches: transformers from 5.24 on, whose name of it is another one: it stayed empty, and answers were wrong."""
    model = pair()[1].eval()
    cache = DynamicCache(config=model.config)
    hidden_BSH = torch.randn(ROWS, 6, model.config.hidden_size)
    mixer = model.backbone.layers[0].mixer
    mask_BS = torch.ones(ROWS, 6)
    mask_BS[0, :2] = 0
    begun_BSH = mixer(hidden_BSH[:, :5], attention_mask=mask_BS[:, :5], **{name: cache})
    assert cache.has_previous_state(0)
    last_BSH = mixer(hidden_BSH[:, 5:], attention_mask=mask_BS[:, 5:], **{name: cache})
    whole_BSH = mixer(hidden_BSH, attention_mask=mask_BS)
    torch.testing.assert_close(torch.cat([begun_BSH, last_BSH], 1), whole_BSH, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("first", [1, 2, 6])
def test_caches(first):
    """Catches: wrong states after a prompt shorter or longer than the convolution; several tokens started at zero."""
    stock, ours = (model.eval() for model in pair())
    ids = torch.randint(14, (ROWS, 9))
    whole = stock(ids, use_cache=False).logits
    caches = [model(ids[:, :first], use_cache=True).cache_params for model in (stock, ours)]
    for layer in (0, 1):
        expected, found = (cache.layers[layer] for cache in caches)
        torch.testing.assert_close(found.conv_states, expected.conv_states, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.recurrent_states, expected.recurrent_states, rtol=1e-3, atol=1e-3)
    rest = ours(ids[:, first:], cache_params=caches[1], use_cache=True).logits
    torch.testing.assert_close(rest, whole[:, first:], rtol=1e-3, atol=1e-3)


def test_gradients_beside_a_cache():
    """Catches: a state in the cache that has lost its gradient in silence (evaluation mode makes a cache unasked)."""
    ids = torch.tensor([[1, 2, 3, 4]])
    found = []
    for model in pair():
        result = model.eval()(ids)
        result.logits.square().sum().backward()
        assert result.cache_params.layers[0].recurrent_states[0].requires_grad
        found.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(found[1], found[0])


def test_checkpoints_stay_stock(tmp_path):
    """Catches: a trace of the switch in what is saved."""
    _, ours = pair()
    ids = torch.randint(15, (ROWS, 9))
    ours.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {type(layer.mixer) for layer in loaded.backbone.layers} == {MambaMixer}
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, ours.eval()(ids).logits, rtol=1e-4, atol=1e-4)
    assert "scan" not in (tmp_path / "config.json").read_text().replace('"use_associative_scan"', "")


def test_one_model_only():
    """Catches: a switch by class or import that reaches other models; copies that run their original's layers."""
    stock, ours = pair()
    ids = torch.randint(15, (ROWS, 9))
    logits = stock(ids).logits
    assert not mamba_scan.uses_torch_scan(stock)
    copied = copy.deepcopy(ours)
    torch.nn.init.zeros_(copied.backbone.norm_f.weight)
    assert mamba_scan.uses_torch_scan(copied)
    assert copied(ids).logits.count_nonzero() == 0 < ours(ids).logits.count_nonzero()
    trunk = auxiliary_modules.encoder_like(ours, layers=1)
    assert (type(trunk.layers[0].mixer), trunk.config.num_hidden_layers) == (TorchScanMixer, 1)
    assert not mamba_scan.uses_torch_scan(auxiliary_modules.encoder_like(stock, layers=1))
    use_scan(ours, "transformers")
    assert not mamba_scan.uses_torch_scan(ours)
    assert torch.equal(ours(ids).logits, logits)


def test_choices(tiny_model):
    """Catches: a choice ignored, or an error about a model that has nothing to choose."""
    gpt2, mamba2 = tiny_model("gpt2"), tiny_model("mamba2")
    use_scan(gpt2)
    assert running(gpt2) is None
    use_scan(mamba2)
    assert running(mamba2) == "Mamba-2 scan: transformers' own torch scan"
    for model, name in ((gpt2, "GPT2LMHeadModel"), (mamba2, "Mamba2ForCausalLM")):
        with pytest.raises(ValueError, match=f"is for Mamba-1 and {name} has no such layer; write 'auto'"):
            use_scan(model, "torch")
    with pytest.raises(
        ValueError, match="mamba_scan='fast' is not a choice; give one of 'auto', 'torch', 'transformers'"
    ):
        command_line.parse(["--mamba_scan", "fast"])
    assert command_line.parse(["--mamba_scan", "torch"]).model.mamba_scan == "torch"


@pytest.mark.parametrize("scan", SCANS)
def test_loading(tokenizer, tmp_path, scan):
    """Catches: a choice that does not reach a model made here or loaded again."""
    model = load_model("mamba-1x8", tokenizer, 24, scan=scan)
    assert mamba_scan.uses_torch_scan(model) is (scan != "transformers")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert mamba_scan.uses_torch_scan(load_model(str(tmp_path), tokenizer, 24, scan=scan)) is (scan != "transformers")
    assert mamba_scan.uses_torch_scan(load(str(tmp_path)).model)


@pytest.mark.parametrize(("ssm", "conv"), [(True, True), (True, False), (False, True), (False, False)])
def test_kernels_come_first(ssm, conv, monkeypatch):
    """Catches: this library's scan in the place of mamba-ssm's kernels; kernels that are only half there.

    What is asked is what transformers asks: the package, and a CUDA device.
    """
    monkeypatch.setattr(mamba_scan, "is_mamba_ssm_available", lambda: ssm)
    monkeypatch.setattr(mamba_scan, "is_causal_conv1d_available", lambda: conv)
    stock, _ = pair()
    use_scan(stock)
    assert mamba_scan.uses_torch_scan(stock) is not (ssm and conv)
    assert running(stock) == "Mamba scan: " + ("mamba-ssm kernels" if ssm and conv else "nt_failures' torch scan")


def test_flops_do_not_depend_on_the_scan():
    """Catches: a count of one scan's own bookkeeping, by which two runs of one model would differ."""
    ids = torch.randint(15, (ROWS, 9))
    counted = []
    for model in pair():
        flops = StepFlops()
        with flops.counting({"input_ids": ids, "labels": ids}):
            model(ids, labels=ids).loss.backward()
        counted.append(flops.of(ROWS))
    assert counted[0] == counted[1] > 0


def test_train_says_which_scan_runs(tmp_path, monkeypatch, capsys):
    """Catches: a flag of train.py that is parsed and not obeyed, or obeyed without a word."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    flags = f"--model mamba-1x8 --mamba_scan transformers --output_dir {tmp_path / 'run'} --max_steps 1 --use_cpu true"
    flags += " --degree 2 --path_length 3 --num_nodes 10 --num_train 8 --num_validation 4 --num_test 4 --sample_rows 0"
    runpy.run_path(str(EXAMPLES / "train.py"))["main"](flags.split())
    assert "\nMamba scan: transformers' own torch scan\n" in capsys.readouterr().out


def test_benchmark(tmp_path, capsys):
    """Catches: a benchmark that no longer runs, or leaves this library's scan or a round out."""
    main = runpy.run_path(str(EXAMPLES / "benchmarks" / "mamba.py"))["main"]
    file = tmp_path / "mamba.json"
    found = main(f"--batch 2 --positions 5 --hidden 64 --layers 1 --rounds 2 --json {file}".split())
    assert json.loads(file.read_text(encoding="utf-8")) == found
    times = found["milliseconds"]
    assert {"Mamba, transformers' own scan", "Mamba, nt_failures' torch scan", "GPT-2"} <= set(times)
    assert all(len(taken) == 2 and min(taken) > 0 for kinds in times.values() for taken in kinds.values())
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(times)
