"""Exact accuracy and full decoding against `generate`, and logits of the targets alone at GPT-2's vocabulary."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, PreTrainedModel

import nt_failures as ntf
from lines.measure import Line, Measured, interleaved
from lines.steps import new_model, parts

VOCABULARY, PREFIX, TARGET = 50257, 37, 9
"""GPT-2's vocabulary, and G(2,5) with 50 labels in its BPE: 8 edges `a,b|`, the query, and a path with its commas."""


def generate(model: PreTrainedModel, prefix: torch.Tensor, tokens: int, use_cache: bool) -> torch.Tensor:
    """Greedy answers by stock `generate`."""
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, use_cache=use_cache, pad_token_id=0)
    mask = torch.ones_like(prefix)
    return model.generate(inputs=prefix, attention_mask=mask, generation_config=config)[:, prefix.shape[1] :]


def exact(size: str, quick: bool) -> Measured:
    """`ObjectiveTrainer.evaluate` against cached `generate` in batches of the same size, and the comparison."""
    count, batch = (64, 32) if quick else (20_000, 500)
    task, _, objective, rows = parts()
    rows = rows.select([i % len(rows) for i in range(count)]).flatten_indices()
    model = new_model("gpt2-1x16" if quick else size)
    prefix, target = torch.tensor(rows["prefix_ids"]), torch.tensor(rows["target_ids"])
    with tempfile.TemporaryDirectory() as folder:
        args = ntf.ObjectiveTrainingArguments(
            folder, per_device_eval_batch_size=batch, use_cpu=True, disable_tqdm=True, report_to="none"
        )
        trainer = ntf.ObjectiveTrainer(model, args, objective=objective, task=task, eval_dataset=rows)
        trainer.log = lambda *args, **kwargs: None

        def by_generate() -> float:
            right = 0
            with torch.no_grad():
                for start in range(0, count, batch):
                    answers = generate(model, prefix[start : start + batch], target.shape[1], use_cache=True)
                    right += int((answers == target[start : start + batch]).all(dim=1).sum())
            return right / count

        def forward() -> None:
            with torch.no_grad():
                for start in range(0, count, batch):
                    model(torch.cat([prefix, target], 1)[start : start + batch, :-1], logits_to_keep=5, use_cache=False)

        same = trainer.evaluate()["eval_free/exact"] == by_generate()
        works = {"ours": trainer.evaluate, "generate": by_generate, "forward": forward}
        found = interleaved(works, 1 if quick else 3)
    notes = [f"{count / found['ours']:,.0f} graphs/s", "also gives the loss and the forced accuracy of every position"]
    checks = {"the same accuracy": same}
    return Measured(found["ours"], found["generate"], found["forward"], "one forward pass", 4, checks, notes)


def decode(size: str, count: int, quick: bool) -> Measured:
    """`Objective.decode`, token by token, against `generate` without a cache."""
    count, size = (8, size.split("-")[0] + "-1x16") if quick else (count, size)
    objective, rows = parts()[2], parts()[3]
    model = new_model(size).eval()
    prefix = torch.tensor(rows[:count]["prefix_ids"])

    def forward() -> None:
        with torch.no_grad():
            model(prefix, logits_to_keep=1, use_cache=False)

    works: dict[str, Callable] = {
        "ours": lambda: objective.decode(model, prefix, 5),
        "uncached": lambda: generate(model, prefix, 5, use_cache=False),
        "forward": forward,
    }
    with torch.no_grad():
        same = bool(torch.equal(works["ours"](), works["uncached"]()))
    found = interleaved(works, 1 if quick else 7)
    return Measured(
        found["ours"], found["uncached"], found["forward"], "one pass over the prefix", 3, {"the same answers": same}
    )


def vocabulary_step(all_positions: bool, small: bool) -> Callable[[], None]:
    """Forward and backward of a 6 x 384 GPT-2 with all its tokens, on batches of random ones."""
    tokens, batch = (300, 4) if small else (VOCABULARY, 32)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokens, n_layer=1 if small else 6, n_embd=16 if small else 384, n_head=2, n_positions=64
    )
    model = AutoModelForCausalLM.from_config(config)
    examples = [
        {"prefix_ids": row[:PREFIX], "target_ids": row[PREFIX:]}
        for row in torch.randint(tokens, (batch, PREFIX + TARGET)).tolist()
    ]
    objective = ntf.NextToken()
    collated = objective.collate(examples)

    def ours() -> None:
        objective.loss(model, collated).sum.backward()

    def raw() -> None:
        logits = model(collated["input_ids"], use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), collated["labels"][:, 1:].flatten(), reduction="sum").backward()

    return raw if all_positions else ours


def peak_kilobytes() -> int:
    """Most memory that this process has had; `getrusage` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def peak(all_positions: bool, small: bool) -> int:
    """Bytes that two steps add to a fresh process's peak memory."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r});"
        "from lines.evaluation import peak_kilobytes, vocabulary_step;"
        f"step = vocabulary_step({all_positions}, {small}); before = peak_kilobytes();"
        "step(); step(); print(peak_kilobytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout.split()[-1])


def vocabulary(quick: bool) -> Measured:
    """Logits of the target columns alone, against all of them."""
    works = {"ours": vocabulary_step(False, quick), "all": vocabulary_step(True, quick)}
    found = interleaved(works, 1 if quick else 5)
    memory = [0, 0] if quick else [peak(all_positions, quick) for all_positions in (False, True)]
    notes = [f"peak memory of a step {memory[0] / 1e6:,.0f} MB, with all logits {memory[1] / 1e6:,.0f} MB"]
    data = {"peak_bytes": memory[0], "peak_bytes_all_logits": memory[1]}
    return Measured(found["ours"], found["all"], least_ratio=1.5, notes=notes, data=data)


LINES = [
    Line(
        "vocabulary-50257",
        "step at GPT-2's vocabulary, 6 x 384, batch 32, BPE lengths",
        "logits at all positions",
        ">= 1.5x",
        vocabulary,
    ),
    Line(
        "evaluate-exact",
        "exact accuracy of 20k graphs, GPT-2 4 x 64",
        "cached `generate`, same batches",
        ">= 4x",
        lambda quick: exact("gpt2-4x64", quick),
    ),
    Line(
        "decode-gpt2",
        "full free decode, GPT-2 4 x 64, 500 graphs",
        "`generate` without cache",
        ">= 3x",
        lambda quick: decode("gpt2-4x64", 500, quick),
    ),
    Line(
        "decode-mamba",
        "full free decode, Mamba 2 x 32, 100 graphs",
        "`generate` without cache",
        ">= 3x",
        lambda quick: decode("mamba-2x32", 100, quick),
    ),
]
