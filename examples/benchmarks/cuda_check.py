"""What only a GPU can say: whether kernels, bfloat16 and torch.compile train alike, how fast, and what limits it.

    python examples/benchmarks/cuda_check.py                  # writes cuda_check.md and cuda_check.json
    python examples/benchmarks/cuda_check.py --models gpt2-12x384 --steps 200

It builds and downloads nothing. Mamba's kernels are compared where mamba-ssm and causal-conv1d are installed.
"""

import argparse
import contextlib
import importlib.util
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, set_seed
from transformers.models.mamba import modeling_mamba

import nt_failures as ntf
from nt_failures.models import mamba_scan
from nt_failures.training import throughput

TASK = ntf.PathStar(degree=2, path_length=5, num_nodes=50)
MODELS = ("gpt2-6x384", "gpt2-12x384", "gpt2-36x1280", "mamba-12x384")
"""The released README's example, GPT-Mini, GPT2-Large, and the Mamba of examples/recipes/paper."""
FORMS = {
    "fp32": {"tf32": False},
    "tf32": {"tf32": True},
    "bf16": {"bf16": True},
    "bf16, compiled": {"bf16": True, "torch_compile": True},
}
KERNELS = (
    "mamba_inner_fn",
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "causal_conv1d_fn",
    "causal_conv1d_update",
)
"""Functions of transformers' Mamba that are kernels where the packages are installed, and torch where they are not."""
BOUND = 0.75
"""Where half the batch takes more than this share of the time, the device waits for the host rather than computes."""


def main(argv: Sequence[str]) -> None:
    """Check, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="sizes (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="rows of a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps of each measurement (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("cuda_check"), help="name of both files")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("cuda_check: torch finds no CUDA device on this machine, so nothing was checked.")
    found = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "kernels": kernels_against_torch("mamba-2x64", "cuda") if has_kernels() else None,
        "models": [of_model(name, "cuda", args.batch, args.steps) for name in args.models],
    }
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


def rows(count: int) -> datasets.Dataset:
    """Tokenised training rows, always the same."""
    columns = {name: column[:count] for name, column in TASK.block(seed=0, split="train", index=0).items()}
    text = {name: column.to_list() for name, column in TASK.render(columns).items()}
    return ntf.tokenize(datasets.Dataset.from_dict(text), ntf.word_level_tokenizer(TASK))


def build(name: str) -> tuple[torch.nn.Module, ntf.Objective]:
    """A new model of that size, always the same, and next-token training."""
    tokenizer = ntf.word_level_tokenizer(TASK)
    set_seed(0)
    return ntf.load_model(name, tokenizer, max_length=64), ntf.NextToken.from_tokenizer(tokenizer)


def has_kernels() -> bool:
    """Whether the packages of Mamba's kernels are installed."""
    return all(importlib.util.find_spec(package) for package in ("mamba_ssm", "causal_conv1d"))


@contextlib.contextmanager
def torch_path() -> Iterator[None]:
    """Within, transformers' Mamba takes the path of torch alone, whatever is installed."""
    chosen = {name: vars(modeling_mamba)[name] for name in KERNELS}
    for name, function in chosen.items():
        setattr(modeling_mamba, name, inspect.unwrap(function))
    try:
        yield
    finally:
        for name, function in chosen.items():
            setattr(modeling_mamba, name, function)


def kernels_against_torch(name: str, device: str) -> dict[str, float]:
    """Loss by both paths of a Mamba in float32, and the largest relative difference of a parameter's gradient."""
    model, objective = build(name)
    mamba_scan.use_scan(model, "transformers")  # whatever transformers runs: kernels where they are
    model.to(device).train()
    batch = {key: value.to(device) for key, value in objective.collate(rows(32).to_list()).items()}
    kernel_loss, by_kernel = loss_and_gradients(model, objective, batch)
    with torch_path():
        torch_loss, by_torch = loss_and_gradients(model, objective, batch)
    worst = max(float((by_kernel[key] - g).norm() / g.norm().clamp(min=1e-12)) for key, g in by_torch.items())
    return {"kernel_loss": kernel_loss, "torch_loss": torch_loss, "gradients": worst}


def loss_and_gradients(
    model: torch.nn.Module, objective: ntf.Objective, batch: Mapping[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss in nats per label, and the gradient of each parameter."""
    model.zero_grad()
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    return float(mean.detach()), {key: p.grad.clone() for key, p in model.named_parameters()}


def of_model(name: str, device: str, batch: int, steps: int, forms: Mapping[str, Mapping] = FORMS) -> dict[str, Any]:
    """Losses and throughput of one size, in every form."""
    found: dict[str, Any] = {"model": name, "batch": batch, "forms": {}}
    for form, options in forms.items():
        whole, half = (train(name, device, rows_of_a_step, steps, options) for rows_of_a_step in (batch, batch // 2))
        step, half_step = (1e3 * it.throughput["seconds"] / it.throughput["steps"] for it in (whole, half))
        passes = passes_alone(whole, batch, steps)
        found["forms"][form] = {
            "losses": [entry["loss"] for entry in whole.state.log_history if "loss" in entry],
            "ms_per_step": step,
            "ms_per_step_at_half_the_batch": half_step,
            "ms_forward_backward": passes,
            "limit": limit(step, half_step, passes),
            **whole.throughput,
        }
        torch._dynamo.reset()
    first = next(iter(found["forms"].values()))["losses"]
    for entry in found["forms"].values():
        entry["largest_difference_of_losses"] = max(abs(a - b) / a for a, b in zip(first, entry["losses"], strict=True))
    return found


def train(name: str, device: str, batch: int, steps: int, options: Mapping[str, Any]) -> ntf.ObjectiveTrainer:
    """The Trainer after so many steps of next-token training, with its losses and throughput."""
    model, objective = build(name)
    data = rows(min(batch * steps, 8192))
    with tempfile.TemporaryDirectory() as folder:
        args = ntf.ObjectiveTrainingArguments(
            folder,
            use_cpu=device == "cpu",
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=1e-4,
            logging_steps=max(steps // 10, 1),  # each log waits for the device
            save_strategy="no",
            disable_tqdm=True,
            report_to=[],
            **options,
        )
        trainer = ntf.ObjectiveTrainer(model, args, objective=objective, train_dataset=data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer


def passes_alone(trainer: ntf.ObjectiveTrainer, batch: int, steps: int) -> float:
    """Milliseconds of a forward and backward pass over one batch that lies on the device already."""
    device = trainer.args.device
    examples = [trainer.train_dataset[i] for i in range(batch)]
    inputs = {key: value.to(device) for key, value in trainer.training_objective.collate(examples).items()}
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    for step in range(steps + throughput.WARM_UP):
        if step == throughput.WARM_UP:
            wait()
            start = time.perf_counter()
        trainer.accelerator.backward(trainer.compute_loss(trainer.model_wrapped, inputs))
        trainer.model.zero_grad()
    wait()
    return 1e3 * (time.perf_counter() - start) / steps


def limit(step: float, half_step: float, passes: float) -> str:
    """What the time of a step, in milliseconds, goes into."""
    if passes < BOUND * step:
        return "what is not forward and backward: data, optimizer, Trainer"
    return "starting kernels" if half_step > BOUND * step else "the device"


def markdown(found: Mapping[str, Any]) -> str:
    """The findings as a page."""
    lines = [f"# {found['device']}, torch {found['torch']}", ""]
    if found["kernels"] is None:
        lines += ["Mamba: mamba-ssm and causal-conv1d are not installed; the torch path ran.", ""]
    else:
        text = "Mamba, kernels against torch: loss {kernel_loss:.6f} and {torch_loss:.6f}, "
        text += "gradients differ by {gradients:.1e}."
        lines += [text.format(**found["kernels"]), ""]
    names = (
        "model",
        "form",
        "tokens/s",
        "TFLOP/s",
        "MFU",
        "peak",
        "ms/step",
        "ms forward + backward",
        "limit",
        "losses differ by",
    )
    lines += ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    for model in found["models"]:
        for form, it in model["forms"].items():
            share, peak = ("-", "-") if it["mfu"] is None else (f"{it['mfu']:.1%}", f"{it['peak_flops'] / 1e12:.4g}")
            cells = (
                model["model"],
                form,
                f"{it['tokens_per_second']:,.0f}",
                f"{it['flops_per_second'] / 1e12:.3g}",
                share,
                peak,
            )
            cells += (f"{it['ms_per_step']:.2f}", f"{it['ms_forward_backward']:.2f}", it["limit"])
            lines.append("| " + " | ".join((*cells, f"{it['largest_difference_of_losses']:.1e}")) + " |")
    batch = ", ".join(str(b) for b in sorted({model["batch"] for model in found["models"]}))
    return "\n".join(
        [
            *lines,
            "",
            f"Batch {batch}, G(2,5) with 50 labels; losses against those of the first form, relative, the largest.",
            "",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
