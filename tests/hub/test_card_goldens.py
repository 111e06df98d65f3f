"""The whole card of eight kinds of run, word for word, from results written down beside it."""

import json
from pathlib import Path

import pytest

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.hub import card
from nt_failures.hub.card import model_card
from nt_failures.hub.card_data import PublishedModel
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import read_objective
from nt_failures.tasks import read_task

CARDS = Path(__file__).parent / "cards"
KINDS = sorted(path.stem for path in CARDS.glob("*.json"))


def card_of(kind):
    """The card of what `cards/<kind>.json` says of a run."""
    given = json.loads((CARDS / f"{kind}.json").read_text(encoding="utf-8"))
    task = None if given["task"] is None else read_task(given.pop("task"))
    notes = [] if task is None else card.notes(task, word_level_tokenizer(task), card.instance(task)[1])
    objective, head = read_objective(given.pop("objective")), given.pop("metadata", {})
    results = RunResults.from_json(given.pop("results"))
    run = PublishedModel(
        **given | {"task": task, "objective": objective, "notes": notes, "results": results}, stock=objective.stock
    )
    return str(model_card(run, **head))


def test_kinds():
    """Catches: a comparison of nothing."""
    assert {"stock", "reversed", "teacherless", "hybrid", "adapter", "local", "trainer", "own_rows"} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_stays_as_it_is(kind):
    """Catches: a word, a number, a blank line or a line of the head that a change of the template alters unseen."""
    assert card_of(kind) == (CARDS / f"{kind}.md").read_text(encoding="utf-8")
