"""Odd names: of classes, models and metrics; in cards, snippets and figures. Shown as they are, or refused by name."""

import ast
import io

import numpy as np
import yaml
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nt_failures import card, figures, finder, report, snippet
from nt_failures.card_data import Run, base_model
from nt_failures.objectives import NextToken
from nt_failures.tasks.path_star import PathStar

MARKDOWN = st.text("<>&*_`[]()|~#$\\!-+=:/\n ab", max_size=30)
TEXT = st.one_of(st.text(max_size=30), MARKDOWN)
HARDWARE = {"hardware": {"device": "CPU", "machine": "x", "threads": 1}, "versions": {"python": "3"}}


@fuzz(
    1500,
    kind=st.sampled_from(["tasks", "objectives"]),
    name=st.one_of(
        st.text(max_size=20),
        st.from_regex(r"[a-z_]{0,4}(\.[a-z_]{0,5}){1,3}", fullmatch=True),
        st.sampled_from(["os.path", "nt_failures.tasks.base.Task", "base", "__init__"]),
    ),
)
def test_finder(kind, name):
    """Catches: a name that finds something else than a class of its kind, or an import error that passes."""
    found = accepted(lambda: finder.find(kind, name), name, "cannot import")
    assert found is None or finder.find(kind, finder.name_of(found)) is found


@fuzz(1200, text=TEXT)
def test_markdown(text):
    """Catches: text that makes a heading, a link, HTML or a second paragraph of itself."""
    tokens = MarkdownIt().parse(f"- x {report.markdown(text)}")
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special"}
    assert sum(token.type == "inline" for token in tokens) == 1


@fuzz(30, name=TEXT, metrics=st.dictionaries(TEXT, st.floats(0, 1), max_size=2), base=TEXT)
def test_cards(name, metrics, base):
    """Catches: a name that breaks the YAML head, or code that does not parse."""
    results = HARDWARE | {"metrics": metrics, "arguments": {"data": {"dataset_seed": 0, "overlap": "forbid"}}}
    run = Run(name, "GPT2LMHeadModel", NextToken(), PathStar(), HARDWARE | {"metrics": metrics})
    made = str(card.model_card(run))
    assert yaml.safe_load(made.split("\n---\n")[0].removeprefix("---"))["library_name"] == "transformers"
    ast.parse(snippet.snippet(run))
    assert base_model(base) in (None, base)
    assert results["metrics"] is metrics


@fuzz(24, names=st.lists(TEXT, max_size=2), values=st.lists(st.floats(0, 1), max_size=2), title=TEXT)
def test_side_by_side(names, values, title):
    """Catches: dollars in a name that are read as a formula and fail when the figure is written; nothing to draw."""
    groups = [{"name": name, "values": values, "chance": 0.5} for name in names]
    figure = accepted(lambda: figures.side_by_side(groups, title), "groups")
    if figure is not None:
        figures.save(figure, io.BytesIO())


EDGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6)


@fuzz(700, edges=EDGES, source=st.integers(0, 4), goal=st.integers(0, 5))
def test_places(edges, source, goal):
    """Catches: edges in a circle that are followed for ever, nodes without a place."""
    places = accepted(lambda: figures._places(edges, source, goal), "source")
    assert places is None or {goal, *np.ravel(edges).tolist()} <= set(places)


@fuzz(
    40,
    shares=st.dictionaries(st.integers(1, 4), st.floats(0, 1), max_size=3),
    others=st.dictionaries(st.integers(1, 4), st.floats(0, 1), max_size=3),
    n=st.integers(0, 5),
    curve=st.lists(
        st.dictionaries(st.sampled_from(["step", "forced/position_1", "loss"]), st.floats(0, 1)), max_size=2
    ),
)
def test_accuracy_figures(shares, others, n, curve):
    """Catches: figures of nothing, or of unlike positions, that end in an IndexError."""
    accepted(lambda: figures.forced_vs_free(shares, others or shares, n, 2, 0.5), "forced")
    accepted(lambda: figures.learning_curves(curve, "forced", 2, 0.5), "curve")


@fuzz(
    500,
    metrics=st.dictionaries(
        st.one_of(TEXT, st.sampled_from(["forced/position_1", "forced/position_x"])), ODD, max_size=4
    ),
)
def test_positions(metrics):
    """Catches: a metric of another kind whose name is read as a position."""
    assert set(report.positions(metrics, "forced")) <= {1}
