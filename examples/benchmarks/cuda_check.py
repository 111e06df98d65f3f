"""What only a GPU can say: whether every objective trains there as on the CPU, how fast, and what limits it.

    python examples/benchmarks/cuda_check.py                  # writes cuda_check.md and cuda_check.json
    python examples/benchmarks/cuda_check.py --models gpt2-12x384 --steps 200

First each objective's loss and gradients are compared with those of the CPU. Where one is wrong, nothing is timed, and
the exit code is 1. It builds and downloads nothing. Mamba's kernels are compared where mamba-ssm and causal-conv1d are
installed.
"""

import argparse
import contextlib
import importlib.util
import inspect
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, set_seed
from transformers.models.mamba import modeling_mamba

import nt_failures as ntf
from nt_failures.models import mamba_scan
from nt_failures.objectives import OBJECTIVES, find_objective
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
CHECKED = {
    "eager": {"attention": "eager"},
    "sdpa": {},
    "bf16": {"bf16": True},
    "compiled": {"compiled": True},
}
"""In which forms an objective is compared with float32 and eager attention on the CPU."""
ALLOWED = {"eager": 1e-4, "sdpa": 1e-4, "bf16": 0.05, "compiled": 1e-4}
"""How much of its length a gradient may differ by; bfloat16 keeps two to three digits."""
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
    parser.add_argument("--no_speed", action="store_true", help="only compare; time nothing")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("cuda_check: torch finds no CUDA device on this machine, so nothing was checked.")
    datasets.disable_progress_bars()
    found = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "objectives": {name: of_objective(name, "cuda") for name in OBJECTIVES},
        "kernels": kernels_against_torch("mamba-2x64", "cuda") if has_kernels() else None,
        "models": [],
    }
    differ = [name for name, forms in found["objectives"].items() if any(map(is_wrong, forms, forms.values()))]
    if not args.no_speed and not differ:
        found["models"] = [of_model(name, "cuda", args.batch, args.steps) for name in args.models]
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    if differ:
        sys.exit(f"cuda_check: {', '.join(differ)} do not train as on the CPU, so nothing was timed.")


def rows(count: int) -> datasets.Dataset:
    """Tokenised training rows, always the same."""
    columns = {name: column[:count] for name, column in TASK.block(seed=0, split="train", index=0).items()}
    text = {name: column.to_list() for name, column in TASK.render(columns).items()}
    return ntf.tokenize(datasets.Dataset.from_dict(text), ntf.word_level_tokenizer(TASK))


def build(name: str, objective: str = "next_token", attention: str = "sdpa") -> tuple[torch.nn.Module, ntf.Objective]:
    """A new model of that size with the objective's modules, always the same, and the objective."""
    tokenizer, kind = ntf.word_level_tokenizer(TASK), find_objective(objective)
    ntf.add_tokens(tokenizer, kind.extra_tokens)
    made = kind.from_tokenizer(tokenizer)
    set_seed(0)
    options = {} if name.startswith("mamba") else {"attn_implementation": attention}
    model = ntf.load_model(name, tokenizer, max_length=64, **options)
    made.attach(model)
    return model, made


def of_objective(name: str, device: str, size: str = "gpt2-2x64", forms: Mapping[str, Mapping] = CHECKED) -> dict:
    """By form: how far loss and gradient of one batch on the device are from those of the CPU, relative to these."""

    def step(where: str, attention: str = "sdpa", bf16: bool = False, compiled: bool = False) -> tuple[float, dict]:
        model, objective = build(size, name, attention)
        model.to(where).eval()  # without dropout, which the devices draw differently
        batch = {key: value.to(where) for key, value in objective.collate(rows(32).to_list()).items()}
        if compiled:
            model.compile()
        with torch.autocast(where, torch.bfloat16, enabled=bf16):
            return loss_and_gradients(model, objective, batch)

    right, gradients = step("cpu", attention="eager")
    length = norm(gradients.values())
    found = {}
    for form, options in forms.items():
        loss, other = step(device, **options)
        far = norm(other[key].cpu() - g for key, g in gradients.items()) / length
        found[form] = {"loss": abs(loss - right) / right, "gradients": far}
        torch._dynamo.reset()
    return found


def norm(tensors: Iterable[torch.Tensor]) -> float:
    """Length of all together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def is_wrong(form: str, found: Mapping[str, float]) -> bool:
    """Whether a difference is more than rounding; NaN is."""
    return not max(found.values(), key=lambda x: math.inf if math.isnan(x) else x) <= ALLOWED[form]


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
    return float(mean.detach()), {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def of_model(name: str, device: str, batch: int, steps: int, forms: Mapping[str, Mapping] = FORMS) -> dict[str, Any]:
    """Losses and throughput of one size, in every form."""
    found: dict[str, Any] = {"model": name, "batch": batch, "forms": {}}
    for form, options in forms.items():
        whole, half = (train(name, device, rows_of_a_step, steps, options) for rows_of_a_step in (batch, batch // 2))
        step, half_step = (1e3 * it.throughput["seconds"] / it.throughput["steps"] for it in (whole, half))
        raw = raw_loop(name, device, batch, steps, options)
        width, tokens = whole.model.config.hidden_size, len(rows(1)[0]["prefix_ids"]) + len(rows(1)[0]["target_ids"])
        found["forms"][form] = {
            "losses": [entry["loss"] for entry in whole.state.log_history if "loss" in entry],
            "ms_per_step": step,
            "ms_per_step_at_half_the_batch": half_step,
            "ms_raw_loop": raw,
            "limit": limit(step, half_step, raw),
            "ceiling": ceiling(width, batch * tokens, device, options),
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


def raw_loop(name: str, device: str, batch: int, steps: int, options: Mapping[str, Any]) -> float:
    """Milliseconds of a step of plain torch, without Trainer and loader: pass, backward and fused AdamW."""
    model, objective = build(name)
    model.to(device).train()
    if options.get("torch_compile"):
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs = {key: value.to(device) for key, value in objective.collate(rows(batch).to_list()).items()}
    labels = inputs.pop("labels")

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=options.get("bf16", False)):
            model(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return 1e3 * seconds(step, device, steps)


def ceiling(width: int, tokens: int, device: str, options: Mapping[str, Any]) -> float:
    """FLOPs a second of the largest matrix product of a block of that width, of as many tokens, by itself."""
    dtype = torch.bfloat16 if options.get("bf16") else torch.float32
    x, w = (
        torch.randn(tokens, width, dtype=dtype, device=device),
        torch.randn(width, 4 * width, dtype=dtype, device=device),
    )
    return 8 * tokens * width**2 / seconds(lambda: x @ w, device, 100)


def seconds(function: Callable[[], object], device: str, times: int) -> float:
    """Mean time of a call, behind the first ones."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    for call in range(times + throughput.WARM_UP):
        if call == throughput.WARM_UP:
            wait()
            start = time.perf_counter()
        function()
    wait()
    return (time.perf_counter() - start) / times


def limit(step: float, half_step: float, raw: float) -> str:
    """What the time of a step, in milliseconds, goes into."""
    if raw < BOUND * step:
        return "what a raw loop has not: data, Trainer"
    return "starting kernels" if half_step > BOUND * step else "the device"


def markdown(found: Mapping[str, Any]) -> str:
    """The findings as a page."""
    lines = [f"# {found['device']}, torch {found['torch']}", ""]
    lines += ["Loss / gradient of each objective against float32 on the CPU, relative; **more than rounding**.", ""]
    lines += ["| objective | " + " | ".join(CHECKED) + " |", "| --- " * (1 + len(CHECKED)) + "|"]
    for name, forms in found["objectives"].items():
        cells = [f"{each['loss']:.0e} / {each['gradients']:.0e}" for each in forms.values()]
        marked = [
            f"**{cell}**" if is_wrong(form, forms[form]) else cell for form, cell in zip(forms, cells, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(marked) + " |")
    lines.append("")
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
        "ms of a raw loop",
        "limit",
        "TFLOP/s of its largest product",
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
            cells += (f"{it['ms_per_step']:.2f}", f"{it['ms_raw_loop']:.2f}", it["limit"])
            cells += (f"{it['ceiling'] / 1e12:.3g}",)
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
