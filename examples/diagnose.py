"""Say whether and why a causal LM fails on a lookahead task: report in the terminal, Markdown, JSON and figures.

    python examples/diagnose.py outputs/deg2-path5-nodes50-gpt2-4x64-next_token-forward-seed0
    python examples/diagnose.py gpt2 --degree 2 --path_length 4 --num_nodes 20       # any stock model

A model that this library trained says itself on which task and under which objective; for any other one, the task's
knobs are flags and the objective is next-token. A stock model gets the bare prompts, without instruction or examples.
"""

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

import torch

import nt_failures as ntf
from nt_failures import report, runs
from nt_failures.diagnosis import Budget, diagnose
from nt_failures.models import check_length
from nt_failures.predictor import ModelPredictor


def main(argv: list[str]) -> dict:
    """One model: load, diagnose, write. Returns the diagnosis."""
    args = parse(argv)
    try:
        loaded = ntf.load(args.model)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{args.model!r} is no folder with a model, and no Hub id within reach: {reason}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task = choose_task(args, loaded.task)
    earlier = read_results(args.model) if loaded.described else {}
    curve = earlier.get("learning_curve", ()) if loaded.task == task else ()
    predictor = ModelPredictor(loaded.model.to(device), loaded.tokenizer, loaded.objective, task, args.batch_size)
    seed = earlier.get("arguments", {}).get("data", {}).get("dataset_seed", 0)
    overlap = earlier.get("arguments", {}).get("data", {}).get("overlap", "forbid")
    held_out = runs.first_rows(task, "test", args.num_test, seed, overlap)
    seen = min(args.num_test, earlier.get("arguments", {}).get("data", {}).get("num_train", 0))
    train = runs.first_rows(task, "train", seen, seed, overlap) if loaded.task == task and seen else None
    check_length(loaded.model, predictor.longest(held_out))
    budget = Budget(earlier["steps"], earlier["examples"], earlier["flops"]) if earlier else None
    found = diagnose(predictor, task, held_out, train, curve, budget)

    folder = args.output_dir or Path("outputs") / "diagnosis" / Path(args.model).name
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "diagnosis.json", found)
    decision, example = found["decision_token"]["position"], report.example_of(predictor, task, held_out)
    report.draw(folder, found["forced_vs_free"], decision, task.chance, example)
    if found["learning_order"]:
        way = "forced" if predictor.autoregressive else "free"
        report.draw_learning(folder, curve, way, decision, task.chance)
    text = report.diagnosis_markdown(found, task, args.model, loaded.objective, loaded.described)
    (folder / "diagnosis.md").write_text(text, encoding="utf-8")
    print(report.diagnosis_text(found, task), f"\n\nreport, figures and JSON are in {folder}")
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; the task's knobs default to those the model was trained with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", help="folder or Hub id of a causal LM")
    for field in dataclasses.fields(ntf.PathStar):
        parser.add_argument(f"--{field.name}", type=int, help=f"default: the model's own, else {field.default}")
    parser.add_argument("--num_test", type=int, default=2000, help="held-out graphs (%(default)s, at most 4096)")
    parser.add_argument("--batch_size", type=int, default=200, help="graphs per forward pass (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="default: outputs/diagnosis/MODEL")
    args = parser.parse_args(argv)
    if not 1 <= args.num_test <= 4096 or args.batch_size < 1:
        raise ValueError(f"--num_test {args.num_test} --batch_size {args.batch_size}: give 1..4096, and at least 1.")
    return args


def choose_task(args: argparse.Namespace, trained: ntf.Task | None) -> ntf.Task:
    """The task of the flags; what they leave open is as the model was trained, or default."""
    given = {f.name: vars(args)[f.name] for f in dataclasses.fields(ntf.PathStar) if vars(args)[f.name] is not None}
    return dataclasses.replace(trained or ntf.PathStar(), **given)


def read_results(model: str) -> dict:
    """results.json of a run of ours, empty for any other model."""
    path = Path(model) / runs.RESULTS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
