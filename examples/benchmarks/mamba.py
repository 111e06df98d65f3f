"""Milliseconds of a Mamba-1's training step by its selective scan, with a Mamba-2 and a GPT-2 of that size beside it.

    python examples/benchmarks/mamba.py
    python examples/benchmarks/mamba.py --rounds 11 --json mamba.json

The steps are interleaved: each round takes one of every kind, so a busy machine slows all of them alike, and CPU time,
which other processes hardly stretch, stands beside the clock's. The table gives medians over the rounds, and ratios to
transformers' own scan (in torch, unless mamba-ssm is installed). mambapy takes part where it is installed.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)
from transformers.utils.import_utils import is_mambapy_available

from nt_failures.experiments import script
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.models import mamba_scan

VOCABULARY = 60
STOCK = "Mamba, transformers' own scan"
OURS = "Mamba, nt_failures' torch scan"


def main(argv: list[str]) -> dict:
    """Measure, print the table, write the file. Returns what is in the file."""
    args = parse(argv)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = {name: model.to(device).train() for name, model in build(args.hidden, args.layers, args.positions).items()}
    ids = torch.randint(VOCABULARY, (args.batch, args.positions), device=device)
    steps = {name: training_step(model, ids) for name, model in models.items()}
    milliseconds = measure(steps, args.rounds)
    found = {
        "batch": args.batch,
        "positions": args.positions,
        "hidden": args.hidden,
        "layers": args.layers,
        "rounds": args.rounds,
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "milliseconds": milliseconds,
    }
    print(table(milliseconds))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    """The flags; numbers below 1 are errors."""
    parser = argparse.ArgumentParser(prog="examples/benchmarks/mamba.py", description=__doc__.splitlines()[0])
    sizes = {"batch": 64, "positions": 40, "hidden": 128, "layers": 4, "rounds": 7}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--json", type=Path, help="write every round's milliseconds to this file")
    args = parser.parse_args(argv)
    for name in sizes:
        if vars(args)[name] < 1:
            raise ValueError(f"{name}={vars(args)[name]} is not positive.")
    if args.hidden % 64:
        raise ValueError(f"hidden={args.hidden} is no multiple of 64, the width of a GPT-2's head.")
    return args


def build(hidden: int, layers: int, positions: int) -> dict[str, PreTrainedModel]:
    """The models to time; the Mamba-1s have the same weights."""
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = MambaConfig(hidden_size=hidden, num_hidden_layers=layers, **tokens)
    stock = MambaForCausalLM(config)
    models = {STOCK: stock}
    if is_mambapy_available():
        models["Mamba, mambapy"] = MambaForCausalLM(
            MambaConfig(hidden_size=hidden, num_hidden_layers=layers, use_mambapy=True, **tokens)
        )
        models["Mamba, mambapy"].load_state_dict(stock.state_dict())
    models[OURS] = copy.deepcopy(stock)
    mamba_scan.use_scan(models[OURS], "torch")
    heads_of_mamba2 = {"num_heads": 8, "head_dim": 2 * hidden // 8, "n_groups": 1}
    models["Mamba-2, transformers' own scan"] = Mamba2ForCausalLM(
        # Sequences are padded to whole chunks: with the default of 256, most of the work would be on padding.
        Mamba2Config(
            hidden_size=hidden, num_hidden_layers=layers, chunk_size=min(positions, 256), **heads_of_mamba2, **tokens
        )
    )
    heads = hidden // 64
    models["GPT-2"] = GPT2LMHeadModel(
        GPT2Config(n_embd=hidden, n_layer=layers, n_head=heads, n_positions=positions, **tokens)
    )
    return models


def training_step(model: PreTrainedModel, ids: torch.Tensor) -> Callable[[], None]:
    """A function that makes one step of AdamW on these ids."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        if ids.is_cuda:
            torch.cuda.synchronize()

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of every step in every round, by the clock and of CPU time, after an uncounted round."""
    clocks = {"clock": time.perf_counter, "cpu": time.process_time}
    milliseconds = {name: {kind: [] for kind in clocks} for name in steps}
    for counts in range(rounds + 1):
        for name, step in steps.items():
            before = {kind: clock() for kind, clock in clocks.items()}
            step()
            for kind, clock in clocks.items() if counts else ():
                milliseconds[name][kind].append(1000 * (clock() - before[kind]))
    return milliseconds


def table(milliseconds: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: medians, and how many times faster than transformers' own scan, round by round (lowest to highest)."""
    rows = [("model and scan", "ms per training step", "CPU ms", "times faster", "by CPU time")]
    for name, times in milliseconds.items():
        medians = (f"{statistics.median(times[kind]):,.0f}" for kind in ("clock", "cpu"))
        rows.append((name, *medians, *(_faster(milliseconds[STOCK][kind], times[kind]) for kind in ("clock", "cpu"))))
    return markdown_table(rows)


def _faster(stock: list[float], own: list[float]) -> str:
    ratios = sorted(s / o for s, o in zip(stock, own, strict=True))
    return f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


if __name__ == "__main__":
    script.run(main)
