"""Lines of a results.jsonl, as a study of next-token training on G(2, 4) leaves them."""

import copy

from nt_failures.experiments.study import summary
from nt_failures.experiments.study.results_file import StudyRun, read_key


def record(recipe="hans", seed=0, exact=0.5, objective="next_token", curve=((2000, 0.5),), **changes):
    """A run of next-token training on G(2, 4) as examples/studies/reproduce.py writes it, cut to what a study reads."""
    made = {
        "recipe": recipe,
        "seed": seed,
        "fingerprint": "0123456789ab",
        "metrics": {
            "forced/exact": exact,
            "forced/position_1": 1.0,
            "forced/position_2": exact,
            "forced/position_3": 0.99,
            "forced/position_4": 0.995,
            "free/exact": exact,
            "free/position_1": 1.0,
            "free/position_2": exact,
            "free/position_3": 0.6,
            "free/position_4": 0.9,
            "decision": exact,
        },
        "n": 20_000,
        "chance": 0.5,
        "decision_position": 2,
        "trained_positions": None,
        "judged_decoding": "free" if objective == "teacherless" else "forced",
        "steps": 2000,
        "flops": 1e12,
        "examples": 128_000,
        "train_seconds": 60.0 + seed,
        "learning_curve": [{"step": step, "free/exact": share} for step, share in curve],
        "arguments": {"objective": {"objective": objective}, "data": {"num_train": 100_000}},
        "diagnosis": {
            "clever_hans": {"follow_rate": 0.9 + seed / 100},
            "decision_token": {"train_accuracy": 0.55},
            "verdict": {"name": "clever-hans + indecipherable token", "text": "Stuck.", "rule": "a rule"},
        },
    }
    return copy.deepcopy(made | changes)


def lost(seed, recipe="hans", fingerprint="0123456789ab"):
    return {"recipe": recipe, "seed": seed, "fingerprint": fingerprint, "diverged": "the loss became NaN"}


def summarise(records, diverged=()):
    """`summary.summarise` of lines as they stand in the files."""
    return summary.summarise([*map(StudyRun.from_json, records)], [*map(read_key, diverged)])
