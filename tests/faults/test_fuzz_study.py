"""Damaged results.jsonl: a run that is read can be shown, what cannot be read is named, and nothing is lost by
appending."""

import json

from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st
from study_records import record

from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.summary import study_table, summarise

LINES = [json.dumps(record("hans", 0, curve=[(500, 0.5), (1000, 0.96)])), json.dumps(record("cure", 1, 0.99))]
PLACES = [
    *[(key,) for key in record()],
    *[("metrics", name) for name in record()["metrics"]],
    *[("diagnosis", "clever_hans"), ("diagnosis", "clever_hans", "follow_rate"), ("diagnosis", "verdict", "name")],
    *[
        ("diagnosis", "decision_token", "train_accuracy"),
        ("arguments", "data"),
        ("arguments", "objective", "objective"),
    ],
]
VALUES = st.one_of(ODD, st.sampled_from([0.5, 1, {}, [], float("nan"), "next_token", None]))


@st.composite
def damaged(draw):
    """One or two runs with bytes flipped, cut out or put in."""
    data = bytearray("\n".join(LINES[: draw(st.integers(1, 2))]).encode() + draw(st.sampled_from([b"", b"\n"])))
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[i] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[i : i + draw(st.integers(1, 300))]
            case 2:
                data[i:i] = draw(st.sampled_from([b"[" * 5_000, b"\n", b"\0", b"null", b"NaN", b"\xff"]))
            case _:
                del data[i:]
        if not data:
            break
    return bytes(data)


def shown(records):
    """All that is made of runs which were read: groups, and the table."""
    groups = summarise(records)
    assert all(0 <= value <= 1 for group in groups for value in group["values"])
    assert len(study_table(groups).splitlines()) == len(groups) + 4


@fuzz(400, data=damaged())
def test_damaged_bytes(data, tmp_path_factory):
    """Catches: a file that cannot be read for another reason than a named line, or a run that is read and cannot be
    shown."""
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    path.write_bytes(data)
    records = accepted(lambda: results_file.read_results(path), "line 1", "line 2", "line 3", "line 4", "line 5")
    if records:
        shown(records)
        results_file.append_result(path, record("new", 7))
        assert results_file.read_results(path)[-1].key.recipe == "new"
        assert results_file.read_results(path)[:-1] == records


@fuzz(600, place=st.sampled_from(PLACES), value=VALUES)
def test_odd_values(place, value, tmp_path_factory):
    """Catches: a field of a wrong kind that is read as a run and breaks, or falsifies, the table."""
    path = tmp_path_factory.getbasetemp() / "odd.jsonl"
    run = record(curve=[(500, 0.5)])
    inner = run
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(run) + "\n" + LINES[1] + "\n")
    records = accepted(lambda: results_file.read_results(path), "line 1 is damaged")
    if records is not None:
        shown(records)
