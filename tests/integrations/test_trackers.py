"""One run of examples/train.py with three trackers at once, and what each of them has kept of it."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

TRAIN = Path(__file__).parents[2] / "examples" / "train.py"
FLAGS = [
    *("--degree", "2", "--path_length", "3", "--num_nodes", "10", "--model", "gpt2-1x16", "--use_cpu", "true"),
    *("--num_train", "64", "--num_validation", "16", "--num_test", "40", "--per_device_train_batch_size", "8"),
    *("--max_steps", "4", "--eval_steps", "2", "--logging_steps", "2", "--sample_rows", "2"),
    *("--save_strategy", "steps", "--save_steps", "4", "--report_to", "trackio", "tensorboard", "wandb"),
]
POSITIONS = [f"forced/position_{k}" for k in (1, 2, 3)]
CLOCK = ("runtime", "samples_per_second", "steps_per_second")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the run; beside the model it holds what the trackers wrote."""
    folder = tmp_path_factory.mktemp("tracked")
    own = {
        "TRACKIO_DIR": folder / "trackio",
        "TENSORBOARD_LOGGING_DIR": folder / "tensorboard",
        "WANDB_DIR": folder,
        "HF_DATASETS_CACHE": folder / "cache",
    }
    env = {**os.environ, **{name: str(path) for name, path in own.items()}, "WANDB_MODE": "offline"}
    command = [sys.executable, str(TRAIN), *FLAGS, "--output_dir", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def expected(run):
    """{step: the figures that a tracker should have}: those of the Trainer's own log, and of the final test."""
    (state,) = (run / "run").glob("checkpoint-4/trainer_state.json")
    figures = {2: {}, 4: {}}
    for entry in json.loads(state.read_text(encoding="utf-8"))["log_history"]:
        for name, value in entry.items():
            if name.startswith("eval_"):
                figures[entry["step"]]["eval/" + name.removeprefix("eval_")] = value
            elif name != "step":
                figures[entry["step"]]["train/" + name] = value
    results = json.loads((run / "run" / "results.json").read_text(encoding="utf-8"))
    figures[4] |= {f"test/{name}": value for name, value in results["metrics"].items()}
    return figures


def trackio_log(run):
    (database,) = (run / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        kept = connection.execute("SELECT run_name, metrics FROM metrics ORDER BY id").fetchall()
    return [(name, json.loads(metrics)) for name, metrics in kept]


def wandb_history(run):
    """The history of an offline run: leveldb's log format behind 7 bytes, and a protobuf a record."""
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header crosses the end of a block
            at += 32768 - at % 32768
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            items = Record.FromString(record).history.item
            record = b""
            if items:
                yield {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def by_step(entries):
    found = {2: {}, 4: {}}
    for entry in entries:
        found[entry["train/global_step"]] |= entry
    return found


def check(found, expected, tolerance=1e-12):
    for step, figures in expected.items():
        assert {f"eval/{name}" for name in POSITIONS} | {"eval/free/exact", "eval/decision"} <= set(figures)
        for name, value in figures.items():
            if not name.endswith(CLOCK):
                assert found[step][name] == pytest.approx(value, rel=tolerance, abs=tolerance), (step, name)
    assert {f"test/{name}" for name in POSITIONS} | {"test/free/position_2"} <= set(found[4])


def test_trackio(run, expected):
    """Catches: figures under other names or steps, the final test in a run of its own, a table without its step."""
    log = trackio_log(run)
    (name,) = {name for name, _ in log}
    assert name.startswith("run-20")
    found = by_step(metrics for _, metrics in log)
    check(found, expected)
    for step in (2, 4):
        table = found[step]["samples"]
        assert table["_type"] == "trackio.table"
        assert [list(row) for row in table["_value"]] == [["graph", "target", "prediction", "first wrong position"]] * 2
        assert all(row["graph"].endswith("=") and len(row["target"].split(",")) == 3 for row in table["_value"])


def test_tensorboard(run, expected):
    """Catches: figures under other names or steps, texts that are never written to the disk."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags = events.Tags()
    found = {2: {}, 4: {}}
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            found[event.step][tag] = event.value
    check(found, expected, tolerance=1e-6)  # float32
    texts = [tag for tag in tags["tensors"] if tag.startswith("samples")]
    steps = [event.step for tag in texts for event in events.Tensors(tag)]
    assert steps == [2, 4]
    text = events.Tensors(texts[0])[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| graph | target | prediction | first wrong position |\n| --- |")
    assert len(text.splitlines()) == 4


def test_wandb(run, expected):
    """Catches: figures under other names or steps, a table that does not reach the run's files."""
    history = list(wandb_history(run))
    found = by_step(history)
    summaries = ("train/train_runtime", "train/train_loss", "train/total_flos")
    check(found, {step: {k: v for k, v in figures.items() if k not in summaries} for step, figures in expected.items()})
    tables = [entry for entry in history if "samples.path" in entry]
    assert [(entry["train/global_step"], entry["samples.nrows"]) for entry in tables] == [(2, 2), (4, 2)]
    (file,) = run.glob(f"wandb/offline-run-*/files/{tables[0]['samples.path']}")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["columns"] == ["graph", "target", "prediction", "first wrong position"]
    assert len(table["data"]) == 2
