"""What a process costs: to start, and in memory while it trains or reads without end."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from lines.measure import WALL, Line, Measured, interleaved

BENCHMARKS = Path(__file__).parents[1]
TRAIN = BENCHMARKS.parent / "train.py"


def run(*command: str) -> str:
    """The output of a fresh interpreter."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout


def children() -> float:
    """CPU seconds of the processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def start_help(quick: bool) -> Measured:
    """`--help` of the training script."""
    works = {
        "ours": lambda: run(str(TRAIN), "--help"),
        "all": lambda: quick or run(str(TRAIN), "--help_all"),
        "limit": lambda: run("-c", "import datasets, transformers"),
    }
    found = interleaved(works, 1 if quick else 7, children)
    checks = {"under 2 s": found["ours"] < 2}
    return Measured(found["ours"], found["all"], found["limit"], "importing datasets and transformers", None, checks)


def start_import(quick: bool) -> Measured:
    """`import nt_failures`."""
    works = {
        "ours": lambda: run("-c", "import nt_failures"),
        "datasets": lambda: run("-c", "import datasets"),
    }
    found = interleaved(works, 1 if quick else 7, children)
    torch_free = run("-c", "import sys, nt_failures; print('torch' in sys.modules)").strip() == "False"
    checks = {"under 1 s beyond datasets": found["ours"] - found["datasets"] < 1, "no torch": torch_free}
    return Measured(found["ours"], None, found["datasets"], "importing datasets", None, checks)


def now_bytes() -> int:
    """Memory of this process that is its own (resident, without shared file pages such as Arrow's)."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize()


def training_memory(rows: int, epochs: int) -> list[int]:
    """Own memory of this process before training and after each epoch, with a model that weighs nothing."""
    from transformers import TrainerCallback

    import nt_failures as ntf
    from nt_failures.data.splits import load_splits

    found = []

    class Memory(TrainerCallback):
        def on_epoch_end(self, *args: object, **kwargs: object) -> None:
            found.append(now_bytes())

    task = ntf.PathStar()
    tokenizer = ntf.word_level_tokenizer(task)
    data = ntf.tokenize(load_splits(task, rows, 1, 1)["train"], tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        args = ntf.ObjectiveTrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=min(rows, 2000),
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
        )
        model = ntf.load_model("gpt2-1x16", tokenizer, 32, {"n_inner": 16})
        objective = ntf.NextToken.from_tokenizer(tokenizer)
        trainer = ntf.ObjectiveTrainer(
            model, args, objective=objective, task=task, train_dataset=data, callbacks=[Memory()]
        )
        trainer.log = lambda *args, **kwargs: None
        found.append(now_bytes())
        trainer.train()
    return found


def stream_memory(rows: int) -> list[int]:
    """Own memory of this process while it reads an endless stream, at ten places after the first."""
    from nt_failures.data.builder import PathStarBuilder

    stream = PathStarBuilder(num_train=None, num_test=0).as_streaming_dataset(split="train").with_format("arrow")
    found, seen = [], 0
    for table in stream.iter(batch_size=4096):
        seen += len(table)
        if seen >= rows * (len(found) + 1) // 11:
            found.append(now_bytes())
        if seen >= rows:
            return found
    raise AssertionError("an endless stream has ended")


def in_child(function: str, *given: int) -> list[int]:
    """One of the two functions above in a process of its own, on one thread, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            f"import sys, os; sys.path.insert(0, {str(BENCHMARKS)!r}); os.environ['HF_DATASETS_CACHE'] = {folder!r};"
            f"from lines.process import {function}; print('FOUND', *{function}(*{given}))"
        )
        return [int(word) for word in run("-c", code).split("FOUND")[-1].split()]


def memory(quick: bool) -> Measured:
    """Own memory in training, 200,000 rows, over epochs."""
    rows, epochs = (64, 2) if quick else (200_000, 4)
    start = WALL()
    found = training_memory(rows, epochs) if quick else in_child("training_memory", rows, epochs)
    notes = [
        f"{found[0] / 1e6:,.0f} MB before training, then by epoch "
        + ", ".join(f"{size / 1e6:,.0f}" for size in found[1:])
        + " MB"
    ]
    checks = {"last epoch within 5 % of the first": found[-1] < 1.05 * found[1]} if not quick else {}
    return Measured(WALL() - start, checks=checks, notes=notes, data={"bytes": found})


def stream(quick: bool) -> Measured:
    """Own memory while an endless stream is read."""
    rows = 100_000 if quick else 10_000_000
    start = WALL()
    found = stream_memory(rows) if quick else in_child("stream_memory", rows)
    notes = ["by million rows " + ", ".join(f"{size / 1e6:,.0f}" for size in found) + " MB"]
    checks = {"flat": found[-1] - found[2] < 0.02 * found[-1]} if not quick else {}
    return Measured(WALL() - start, checks=checks, notes=notes, data={"bytes": found})


LINES = [
    Line("start-help", "`python examples/train.py --help`", "`--help_all`, which needs torch", "< 2 s", start_help),
    Line("start-import", "`import nt_failures`", "", "< 1 s beyond datasets; no torch", start_import),
    Line("memory-train", "memory, 200k train rows, 4 epochs", "", "stated; flat", memory),
    Line("memory-stream", "memory, endless stream, 10 M rows", "", "flat", stream),
]
