"""How fast a GPU trains stock models, beside a loop of plain torch and its own matrix product, and what limits it.

    python examples/benchmarks/cuda_speed.py                  # writes cuda_speed.md and cuda_speed.json
    python examples/benchmarks/cuda_speed.py --models gpt2-12x384 --steps 200

Next-token training on the paper's G(2,5), without evaluations. It downloads nothing.
"""

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, set_seed

import nt_failures as ntf
from nt_failures.experiments import command_line
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.hub import environment
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
BOUND = 0.75
"""Where half the batch takes more than this share of the time, the device waits for the host rather than computes."""


def main(argv: Sequence[str]) -> None:
    """Measure, and write both files after each model."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help="sizes (%(default)s)")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="(all)")
    parser.add_argument("--batch", type=int, default=256, help="rows of a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="steps of each measurement (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("cuda_speed"), help="name of both files")
    args = parser.parse_args(argv)
    if args.steps <= throughput.WARM_UP:
        parser.error(f"--steps {args.steps} leaves none to measure: the first {throughput.WARM_UP} are not timed.")
    if not torch.cuda.is_available():
        sys.exit("cuda_speed: torch finds no CUDA device on this machine, so nothing was measured.")
    datasets.disable_progress_bars()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "versions": environment.versions(), "models": []}
    for name in args.models:
        found["models"].append(of_model(name, "cuda", args.batch, args.steps, {f: FORMS[f] for f in args.forms}))
        args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        args.output.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))


def rows(count: int) -> datasets.Dataset:
    """Tokenised training rows, always the same."""
    columns = {name: column[:count] for name, column in TASK.block(seed=0, split="train", index=0).items()}
    text = {name: column.to_list() for name, column in TASK.texts(columns).items()}
    return ntf.tokenize(datasets.Dataset.from_dict(text), ntf.word_level_tokenizer(TASK))


def build(name: str) -> tuple[torch.nn.Module, ntf.Objective]:
    """A new model of that size, always the same, and next-token training."""
    tokenizer = ntf.word_level_tokenizer(TASK)
    set_seed(0)
    return ntf.load_model(name, tokenizer, max_length=64), ntf.NextToken.from_tokenizer(tokenizer)


def of_model(name: str, device: str, batch: int, steps: int, forms: Mapping[str, Mapping] = FORMS) -> dict[str, Any]:
    """Losses and throughput of one size, in every form."""
    found: dict[str, Any] = {"model": name, "batch": batch, "forms": {}}
    for form, options in forms.items():
        losses, speed = train(name, device, batch, steps, options)
        _, half_speed = train(name, device, batch // 2, steps, options)
        step, half_step = (1e3 * it["seconds"] / it["steps"] for it in (speed, half_speed))
        raw = raw_loop(name, device, batch, steps, options)
        found["forms"][form] = {
            "losses": losses,
            "ms_per_step": step,
            "ms_per_step_at_half_the_batch": half_step,
            "limit": limit(step, half_step, raw["ms_raw_loop"]),
            **raw,
            **speed,
        }
    first = next(iter(found["forms"].values()))["losses"]
    for entry in found["forms"].values():
        entry["largest_difference_of_losses"] = max(abs(a - b) / a for a, b in zip(first, entry["losses"], strict=True))
    return found


def train(name: str, device: str, batch: int, steps: int, options: Mapping[str, Any]) -> tuple[list[float], dict]:
    """Losses and throughput of so many steps."""
    forget()
    model, objective = build(name)
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
        data = rows(min(batch * steps, 8192))
        trainer = ntf.ObjectiveTrainer(model, args, objective=objective, train_dataset=data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer.throughput


def forget() -> None:
    """Free what earlier measurements hold, and what torch.compile has learnt of their shapes."""
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()


def raw_loop(name: str, device: str, batch: int, steps: int, options: Mapping[str, Any]) -> dict[str, float]:
    """`ms_raw_loop`: a step of plain torch without Trainer and loader, a pass, backward and fused AdamW.

    `product`: FLOPs a second of the largest matrix product of one of its blocks, as many tokens, by itself.
    """
    forget()
    model, objective = build(name)
    model.to(device).train()
    if options.get("torch_compile"):
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs = {key: value.to(device) for key, value in objective.collate(rows(batch).to_list()).items()}

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=options.get("bf16", False)):
            model(**inputs, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    tokens, width = inputs["input_ids"].numel(), model.config.hidden_size
    dtype = torch.bfloat16 if options.get("bf16") else torch.float32
    x, w = (torch.randn(shape, dtype=dtype, device=device) for shape in ((tokens, width), (width, 4 * width)))
    product = 8 * tokens * width**2 / seconds(lambda: x @ w, device, 100)
    return {"ms_raw_loop": 1e3 * seconds(step, device, steps), "product": product}


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
    """The figures as a page."""
    names = (
        "model",
        "form",
        "tokens/s",
        "TFLOP/s",
        "MFU",
        "peak",
        "of a matrix product",
        "ms/step",
        "ms of a raw loop",
    )
    rows = [(*names, "limit", "losses differ by")]
    for model in found["models"]:
        for form, it in model["forms"].items():
            share, peak = ("-", "-") if it["mfu"] is None else (f"{it['mfu']:.1%}", f"{it['peak_flops'] / 1e12:.4g}")
            rates = [f"{it[name] / 1e12:.3g}" for name in ("flops_per_second", "product")]
            cells = (model["model"], form, f"{it['tokens_per_second']:,.0f}", rates[0], share, peak, rates[1])
            cells += (f"{it['ms_per_step']:.2f}", f"{it['ms_raw_loop']:.2f}", it["limit"])
            rows.append((*cells, f"{it['largest_difference_of_losses']:.1e}"))
    batch = ", ".join(str(b) for b in sorted({model["batch"] for model in found["models"]}))
    note = "`of a matrix product`: TFLOP/s of the largest one of a block, by itself; losses against the first form's."
    head = f"# {found['device']}, {environment.in_words(found['versions'])}"
    return f"{head}\n\n{markdown_table(rows)}\n\nBatch {batch}, G(2,5) with 50 labels. {note}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
