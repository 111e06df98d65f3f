"""Drawing, building and tokenising rows, against the same in Python, row by row."""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
from torch.utils.data import DataLoader

import nt_failures as ntf
from lines.measure import CPU, WALL, Line, Measured, interleaved, seconds
from nt_failures.data.builder import PathStarBuilder
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.tasks import TASKS
from nt_failures.tasks.blocks import BLOCK_ROWS

SIZES = [(2, 5, 50), (5, 5, 50), (20, 5, 100), (2, 20, 50)]


def instance(rng: random.Random, degree: int, path_length: int, num_nodes: int) -> dict:
    """One graph as anybody would draw it in plain Python."""
    nodes = rng.sample(range(num_nodes), 1 + degree * (path_length - 1))
    arms, edges = [], []
    for arm in range(degree):
        start = 1 + arm * (path_length - 1)
        arms.append([nodes[0], *nodes[start : start + path_length - 1]])
        edges.extend(itertools.pairwise(arms[-1]))
    rng.shuffle(edges)
    return {"edges": edges, "source": nodes[0], "goal": arms[0][-1], "path": arms[0]}


def numpy_instance(rng: np.random.Generator, degree: int, path_length: int, num_nodes: int) -> dict:
    """The same with NumPy's generator."""
    nodes = rng.choice(num_nodes, 1 + degree * (path_length - 1), replace=False).tolist()
    arms = [[nodes[0], *nodes[i : i + path_length - 1]] for i in range(1, len(nodes), path_length - 1)]
    edges = [edge for arm in arms for edge in itertools.pairwise(arm)]
    return {"edges": [edges[i] for i in rng.permutation(len(edges))], "source": nodes[0], "path": arms[0]}


def text(row: dict) -> dict:
    """Prompt and completion of a graph."""
    edges = "|".join(f"{a},{b}" for a, b in row["edges"])
    prompt = f"{edges}/{row['source']},{row['goal']}="
    return {**row, "prompt": prompt, "completion": ",".join(map(str, row["path"]))}


def sample(size: tuple[int, int, int], quick: bool) -> Measured:
    """Seconds per instance."""
    task, rows, few = ntf.PathStar(*size), BLOCK_ROWS, 20 if quick else 1000
    numbers = min(1 + task.num_edges, task.num_nodes - 1) + task.num_edges - 1
    rng, python, numpy_rng = np.random.default_rng(0), random.Random(0), np.random.default_rng(0)
    works = {
        "ours": lambda: task.sample(rng, rows),
        "python": lambda: [instance(python, *size) for _ in range(few)],
        "numpy": lambda: [numpy_instance(numpy_rng, *size) for _ in range(few)],
        "bits": lambda: rng.integers(0, 2**32, size=(numbers, rows), dtype=np.uint32),
        "bounded": lambda: [rng.integers(0, 1 + j, size=rows, dtype=np.uint32) for j in range(1, numbers + 1)],
    }
    found = interleaved(works, 1 if quick else 31)
    ours, limit = found["ours"] / rows, found["bits"] / rows
    checks = {"within 4x of its random bits": ours <= 4 * limit}
    if size == SIZES[0]:
        checks["1.5 M instances/s"] = 1 / ours >= 1.5e6
    notes = [
        f"{1e-6 / ours:.2f} M instances/s",
        f"{found['numpy'] / few / ours:.0f}x of NumPy per instance",
        f"{found['ours'] / found['bounded']:.1f}x of the time of the same numbers by `Generator.integers`",
    ]
    return Measured(ours, found["python"] / few, limit, "drawing its random bits", 30, checks, notes)


def every_task(quick: bool) -> Measured:
    """Training rows of each task's largest config, and of a large tree: drawn, split and written as text."""
    rng, rows, largest = np.random.default_rng(0), 100 if quick else 100_000, [TASKS["tree_star"](5, 2, 7, 400)]
    for task_class in TASKS.values():
        tasks = [task_class(**sizes) for sizes in task_class.CONFIGS.values()]
        largest.append(max(tasks, key=lambda task: len(task.texts(task.sample(rng, 1))["prompt"].data)))

    def write(task: ntf.Task) -> None:
        for index, left in enumerate(range(rows, 0, -BLOCK_ROWS)):
            task.texts(task.block(0, "train", index, rows=left))

    found = interleaved({task: lambda task=task: write(task) for task in largest}, 1 if quick else 3)
    notes = [f"{task}: {seconds(took)}" for task, took in found.items()]
    slowest = max(found.values())
    return Measured(slowest, checks={"under 3 s": slowest < 3}, notes=notes)


def _python_rows(rows: int) -> Iterator[dict]:
    rng = random.Random(0)
    for _ in range(rows):
        yield text(instance(rng, *SIZES[0]))


def build(rows: int, num_proc: int | None = None, size: tuple[int, int, int] = SIZES[0]) -> int:
    """Draw rows into a new cache; returns the bytes on disk."""
    graph = dict(zip(("degree", "path_length", "num_nodes"), size, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        PathStarBuilder(cache_dir=folder, num_train=rows, num_test=0, **graph).download_and_prepare(num_proc=num_proc)
        return sum(path.stat().st_size for path in Path(folder).rglob("*.arrow"))


def _build_in_python(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        datasets.Dataset.from_generator(_python_rows, gen_kwargs={"rows": rows}, cache_dir=folder)


def _write(size: int) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(size))


def build_line(quick: bool) -> Measured:
    """Sample, text and Arrow on disk."""
    rows, few = (200, 200) if quick else (200_000, 20_000)
    size = build(rows)
    works = {"ours": lambda: build(rows), "python": lambda: _build_in_python(few), "write": lambda: _write(size)}
    found = interleaved(works, 1 if quick else 5, CPU)
    notes = [f"{rows / found['ours']:,.0f} rows/s", f"{size / 1e6:.0f} MB"]
    return Measured(found["ours"], found["python"] * rows / few, found["write"], "writing the bytes", 10, notes=notes)


def processes(rows: int, size: tuple[int, int, int], quick: bool) -> Measured:
    """Two processes against one, by the clock on the wall."""
    rows = 200 if quick else rows
    works = {"two": lambda: build(rows, 2, size), "one": lambda: build(rows, None, size)}
    found = interleaved(works, 1 if quick else 5, WALL)
    return Measured(found["two"], found["one"], found["one"] / 2, "half of one process", 1.6)


def tokenise(quick: bool) -> Measured:
    """200,000 rows of text to collated batches of 256."""
    rows, few = (300, 100) if quick else (200_000, 4_000)
    task = ntf.PathStar(*SIZES[0])
    tokenizer = ntf.word_level_tokenizer(task)
    objective = ntf.NextToken.from_tokenizer(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        builder = PathStarBuilder(cache_dir=folder, num_train=rows, num_test=0)
        builder.download_and_prepare()
        dataset = builder.as_dataset(split="train")

        def ours() -> None:
            datasets.disable_caching()
            whole = TokenDataset.of(ntf.tokenize(dataset, tokenizer))
            for _ in DataLoader(whole, batch_size=256, collate_fn=objective.collate):
                pass

        def row_by_row() -> None:
            encoded = []
            for row in dataset.select(range(few)):
                prefix, target = (
                    tokenizer(row[name], add_special_tokens=False)["input_ids"] for name in ("prompt", "completion")
                )
                positions = list(range(1, len(target) + 1))
                encoded.append({"prefix_ids": prefix, "target_ids": target, "target_positions": positions})
            for start in range(0, few, 256):
                objective.collate(encoded[start : start + 256])

        ids = np.zeros((rows, 37), dtype=np.int64)
        works = {"ours": ours, "rows": row_by_row, "copy": lambda: ids + 1}
        found = interleaved(works, 1 if quick else 5)
    checks = {"under 3 s": found["ours"] < 3}
    return Measured(found["ours"], found["rows"] * rows / few, found["copy"], "copying the ids once", 20, checks)


LINES = [
    *(
        Line(
            f"sample-{'-'.join(map(str, size))}",
            f"`PathStar.sample` {size}, per instance",
            "plain Python, one instance at a time",
            ">= 30x; <= 4x of its bits" + ("; >= 1.5 M/s" if size == SIZES[0] else ""),
            lambda quick, size=size: sample(size, quick),
        )
        for size in SIZES
    ),
    Line("tasks", "100k rows of the slowest task, drawn, split and as text", "", "< 3 s", every_task),
    Line("build", "builder: sample, text, Arrow on disk, 200k rows", "plain Python, row by row", ">= 10x", build_line),
    *(
        Line(name, work, "one process", ">= 1.6x", lambda q, rows=rows, size=size: processes(rows, size, q))
        for name, work, rows, size in (
            ("build-2-processes", "the same with `num_proc=2`", 200_000, SIZES[0]),
            ("build-2-processes-20-5-100", "200k rows of (20, 5, 100) with `num_proc=2`", 200_000, SIZES[2]),
            ("build-2-processes-2M", "2 M rows with `num_proc=2`", 2_000_000, SIZES[0]),
        )
    ),
    Line("tokenise", "tokenise 200k rows to ready batches", "row-by-row encode", ">= 20x; < 3 s", tokenise),
]
