"""Tokens and FLOPs a second, and the share of the peak: every figure here was worked out by hand."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from transformers import TrainerCallback

from nt_failures.diagnosis.report import throughput_line
from nt_failures.objectives import NextToken
from nt_failures.training import throughput
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.throughput import Clock
from nt_failures.training.trainer import ObjectiveTrainer

FOUND = {"tokens_per_second": 1e6, "flops_per_second": 98.95e12, "peak_flops": 989.5e12, "mfu": 0.1}
FOUND |= {"device": "NVIDIA H200", "processes": 1, "precision": "bf16", "attention": "sdpa", "compiled": True}


CPU = torch.device("cpu")


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(throughput.time, "perf_counter", time)
    return time


def test_only_steps_behind_the_warm_up_count(tiny_model, time, monkeypatch):
    """Catches: compilation or an evaluation counted as training, tokens of a step whose time is not counted."""
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append(time.seconds))
    clock = Clock(torch.device("meta"))
    for step in range(1, 8):
        time.seconds += 100.0 if step <= throughput.WARM_UP else 2.0  # the first steps compile
        clock.batch(tokens=10, flops=3_000_000_000)
        clock.batch(tokens=6, flops=2_000_000_000)
        with clock.after(step, busy=step in (2, 5), last=step == 7):
            time.seconds += 1000.0 if step in (2, 5, 7) else 0.0  # evaluates, and saves at the end
    time.seconds += 500.0
    clock.device = CPU
    found = clock.total(Accelerator(cpu=True), tiny_model("gpt2"))
    assert (found["steps"], found["seconds"]) == (4, 8.0)
    assert (found["tokens_per_second"], found["flops_per_second"]) == pytest.approx((64 / 8, 20e9 / 8))
    assert waited == [200.0, 1300.0, 1304.0, 2308.0]
    assert [found[name] for name in ("precision", "device", "peak_flops", "mfu")] == ["fp32", "CPU", None, None]


def test_an_epochs_end_is_no_step():
    """Catches: the call behind the last step of an epoch counted as a step without tokens."""
    clock = Clock(CPU)
    for step in (1, 2, 3, 4, 4, 5, 5):
        with clock.after(step, busy=False, last=False):
            pass
    assert clock.steps == 2


def test_too_short_for_a_figure(tiny_model):
    """Catches: a division by no time."""
    clock = Clock(CPU)
    for step in range(1, throughput.WARM_UP + 1):
        with clock.after(step, busy=False, last=step == throughput.WARM_UP):
            pass
    assert clock.total(Accelerator(cpu=True), tiny_model("gpt2")) is None


def test_the_peak_is_that_of_all_devices(tiny_model, time, monkeypatch):
    """Catches: the FLOPs of two GPUs held against the peak of one, or those of one against the peak of two."""
    monkeypatch.setattr(throughput, "device_name", lambda device: "NVIDIA H200")
    clock = Clock(CPU)
    for step in range(1, throughput.WARM_UP + 3):
        time.seconds += 2.0
        clock.batch(tokens=10, flops=100 * 10**12)
        with clock.after(step, busy=False, last=step == throughput.WARM_UP + 2):
            pass
    both = SimpleNamespace(num_processes=2, mixed_precision="bf16", reduce=lambda sums: 2 * sums)
    both.state = Accelerator(cpu=True).state
    found = clock.total(both, tiny_model("gpt2"))
    assert (found["flops_per_second"], found["mfu"]) == pytest.approx((100e12, 100 / 1979))
    assert found["peak_flops"] == 2 * 989.5e12


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H200", "bf16", 989.5e12),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.5e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA H200 MIG 1g.18gb", "bf16", None),
        ("NVIDIA H100", "bf16", None),
        ("CPU", "fp32", None),
    ],
)
def test_peaks_are_stated_never_guessed(device, precision, peak):
    """Catches: a part of a GPU, or one of another form, taken for the whole; a figure with sparsity."""
    assert throughput.PEAKS.get(device, {}).get(precision) == peak


def test_each_device_has_every_precision():
    """Catches: a peak that is missing, or columns in each other's place."""
    for peaks in throughput.PEAKS.values():
        assert list(peaks) == ["bf16", "fp16", "tf32", "fp32"]
        assert peaks["bf16"] == peaks["fp16"] > peaks["tf32"] > peaks["fp32"]


def test_precision_is_that_of_the_products(monkeypatch):
    """Catches: float32 weights under autocast taken for float32 products, TF32 on a CPU."""
    cuda = torch.device("cuda")
    assert throughput.precision(cuda, "bf16", torch.float32) == "bf16"
    assert throughput.precision(cuda, "no", torch.bfloat16) == "bf16"
    assert throughput.precision(cuda, "fp16", torch.float32) == "fp16"
    assert throughput.precision(cuda, "no", torch.float32) == "fp32"
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    assert throughput.precision(cuda, "no", torch.float32) == "tf32"
    assert throughput.precision(CPU, "no", torch.float32) == "fp32"


def test_a_line_for_people():
    """Catches: a share without the peak it is of, kernels that are not named."""
    shown = (
        "1,000,000 tokens/s, 98.95 TFLOP/s, MFU 10.0% of 989.5 TFLOP/s (NVIDIA H200, bf16, sdpa attention, compiled)"
    )
    assert throughput_line(FOUND) == shown
    two = FOUND | {"processes": 2, "peak_flops": None, "mfu": None, "attention": None, "compiled": False}
    shown = "1,000,000 tokens/s, 98.95 TFLOP/s (2 x NVIDIA H200, bf16, no attention, eager)"
    assert throughput_line(two) == shown


class Moves(TrainerCallback):
    """Moves the clock: half a second a step, an hour an evaluation."""

    def __init__(self, time):
        self.time = time

    def on_step_end(self, *args, **kwargs):
        self.time.seconds += 0.5

    def on_evaluate(self, *args, **kwargs):
        self.time.seconds += 3600.0


def test_a_training_measures_itself(tiny_model, tokenized, tmp_path, time):
    """Catches: evaluations in the time, accumulated batches forgotten, FLOPs of another run."""
    args = ObjectiveTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=9,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=4,
        disable_tqdm=True,
    )
    objective = NextToken(pad_token_id=14)
    trainer = ObjectiveTrainer(
        tiny_model("gpt2"), args, objective=objective, train_dataset=tokenized, eval_dataset=tokenized.select(range(3))
    )
    trainer.add_callback(Moves(time))
    assert trainer.throughput is None
    trainer.train()
    found = json.loads(json.dumps(trainer.throughput))
    steps = 9 - throughput.WARM_UP
    assert (found["steps"], found["seconds"], found["processes"], found["compiled"]) == (steps, steps * 0.5, 1, False)
    assert found["tokens_per_second"] == pytest.approx(2 * 4 * 18 / 0.5)
    assert found["flops_per_second"] == pytest.approx(trainer.state.total_flos / 9 / 0.5, rel=1e-6)
    assert (found["attention"], found["mfu"]) == ("sdpa", None)
