"""Grids of runs: what each combination is, what a grid file may say, and that ours say nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from nt_failures.experiments import command_line
from nt_failures.experiments.run import choose_tokenizer_and_objective
from nt_failures.experiments.study import grid
from nt_failures.objectives import OBJECTIVES

RECIPES = Path(__file__).parents[3] / "examples" / "recipes"
COMPARED = sorted(path for path in (RECIPES / "compare").glob("*.yaml") if path.stem.startswith("deg"))
OWN_REACH = grid.read_axes(RECIPES / "compare" / "own_reach.yaml", {"objectives": grid.OBJECTIVE_KEYS})
ONE_PASS = grid.read_axes(RECIPES / "compare" / "one_pass.yaml", {"objectives": grid.OBJECTIVE_KEYS})
COMPARISON = grid.read_axes(RECIPES / "compare" / "objectives.yaml", {"objectives": grid.OBJECTIVE_KEYS})
MAP = grid.read_axes(
    RECIPES / "delay" / "map.yaml",
    {
        "problems": ("degree", "path_length", "num_nodes", "max_steps"),
        "objectives": grid.OBJECTIVE_KEYS,
        "optimizers": ("optimizer", "muon_learning_rate"),
    },
)


def test_combinations_by_hand(tmp_path):
    """Catches: a choice that does not win, options of another objective left over, a product in another order."""
    common = {"degree": 2, "seed": 4, "objective": "hybrid", "objective_options": {"share": 0.5}}
    axes = {
        "graphs": {"small": {"degree": 3}, "large": {"degree": 5}},
        "objectives": {"a": {"objective": "teacherless"}, "b": {"order": "reversed"}},
    }
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(common))
    paths = grid.write_recipes(tmp_path / "common.yaml", axes, tmp_path / "out")
    assert [(*names, path.name) for names, path in paths.items()] == [
        ("small", "a", "small-a.yaml"),
        ("small", "b", "small-b.yaml"),
        ("large", "a", "large-a.yaml"),
        ("large", "b", "large-b.yaml"),
    ]
    written = [command_line.read_recipe(path) for path in paths.values()]
    assert written[0] == {"degree": 3, "seed": 4, "objective": "teacherless"}
    assert written[3] == {**common, "degree": 5, "order": "reversed"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graphs: {a: {order: reversed}}", "has the axes graphs; it must have objectives"),
        ("objectives: {}", "at least one"),
        ("objectives: {a: {}}", "must set one of them"),
        ("objectives: {a: {learning_rate: 1}}", "a may set objective, order, objective_options"),
        ("objectives: {a: [order]}", "a may set"),
        ("objectives: {../a: {order: reversed}}", "cannot name a file"),
        ("objectives: [a]", "must map the name"),
        ("objectives: {1: {order: reversed}}", "1 cannot name a file"),
    ],
)
def test_a_grid_file_says_nothing_else(text, message, tmp_path):
    """Catches: a comparison in which one run has another learning rate, a file written outside its folder."""
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        grid.read_axes(tmp_path / "grid.yaml", {"objectives": grid.OBJECTIVE_KEYS})


def test_all_objectives_are_compared():
    """Catches: an objective that was added and is missing in the comparison."""
    assert {values["objective"] for values in COMPARISON["objectives"].values()} == set(OBJECTIVES)


@pytest.mark.parametrize("path", COMPARED, ids=lambda path: path.stem)
def test_compared_recipes_differ_in_the_objective_alone(path, tmp_path):
    """Catches: a recipe that sets an objective itself, which a comparison would drop or mix; another name than its
    graph's."""
    common = command_line.read_recipe(path)
    assert not set(common) & set(grid.OBJECTIVE_KEYS)
    assert path.stem == f"deg{common['degree']}-path{common['path_length']}-nodes{common['num_nodes']}"
    made = grid.write_recipes(path, COMPARISON, tmp_path)
    assert len(made) == len(COMPARISON["objectives"])
    for values in map(command_line.read_recipe, made.values()):
        assert {name: value for name, value in values.items() if name not in grid.OBJECTIVE_KEYS} == common


def test_cures_of_one_pass_are_judged_by_it(tmp_path):
    """Catches: an entry that is decoded, and so said to be solved, token by token."""
    for path in grid.write_recipes(COMPARED[0], ONE_PASS, tmp_path).values():
        _, objective = choose_tokenizer_and_objective(command_line.parse([str(path), "--use_cpu", "true"]))
        assert objective.decodings[0] == "parallel"


def test_an_option_may_be_a_number_of_the_recipe(tmp_path):
    """Catches: a window by the wrong graph's length, a text option taken for a number, a number that is not there."""
    (tmp_path / "common.yaml").write_text("{path_length: 5, lr_scheduler_type: linear}")
    options = {"heads": "path_length", "depths": "path_length - 2", "form": "lr_scheduler_type", "x": "a - 1", "y": 0.5}
    axes = {"objectives": {"a": {"objective_options": options}}, "graphs": {"small": {"path_length": 4}}}
    (path,) = grid.write_recipes(tmp_path / "common.yaml", axes, tmp_path).values()
    written = command_line.read_recipe(path)["objective_options"]
    assert written == {**options, "heads": 4, "depths": 2}


@pytest.mark.parametrize("nodes", [10, 30, 100])
def test_protocols_of_one_size_differ_in_the_graph_alone(nodes):
    """Catches: one of the graphs trained longer, wider or on other data than the others of its source."""
    found = [command_line.read_recipe(path) for path in COMPARED if path.stem.endswith(f"-nodes{nodes}")]
    assert len(found) == {10: 3, 30: 4, 100: 3}[nodes]
    assert len({(values.pop("degree"), values.pop("path_length")) for values in found}) == len(found)
    assert all(values == found[0] for values in found)


def one_of_each(axes):
    """Every choice once, beside the first ones of the other axes."""
    first = {axis: dict([next(iter(choices.items()))]) for axis, choices in axes.items()}
    for axis, choices in axes.items():
        for name, values in choices.items():
            yield {**first, axis: {name: values}}


@pytest.mark.parametrize(
    ("common", "axes"),
    [
        pytest.param(common, axes, id="-".join(name for choice in axes.values() for name in choice))
        for common, all_axes in (
            (RECIPES / "delay" / "cpu.yaml", MAP),
            (COMPARED[0], COMPARISON),
            (COMPARED[0], OWN_REACH),
            (COMPARED[0], ONE_PASS),
        )
        for axes in one_of_each(all_axes)
    ],
)
def test_every_choice_is_a_recipe_that_parses(common, axes, tmp_path):
    """Catches: a misspelt flag or objective, options that it does not take, a name that says another graph than it
    sets."""
    ((names, path),) = grid.write_recipes(common, axes, tmp_path).items()
    args = command_line.parse([str(path), "--use_cpu", "true"])
    choose_tokenizer_and_objective(args)
    if "problems" in axes:
        assert names[0] == args.task.config_name
        assert args.training.stop_when_solved
        assert args.training.lr_scheduler_type == "constant_with_warmup"  # else a run that stops early saw another one
        assert args.training.max_steps % args.training.eval_steps == 0  # what is censored was looked at to its end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one: {a: {x: 1}, a-b: {x: 2}}\ntwo: {b-c: {y: 1}, c: {y: 2}}", "two combinations are named 'a-b-c'"),
        ("one: {a: {x: 1}}\ntwo: {a: {y: 1}}", "two choices are named 'a'"),
    ],
)
def test_every_combination_has_a_file_of_its_own(text, message, tmp_path):
    """Catches: a cell of the map that another one's recipe overwrites, and whose runs then count as that one's."""
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        grid.read_axes(tmp_path / "grid.yaml", {"one": ["x"], "two": ["y"]})


LENGTHS = {"task: addition": 4, "{task: sort, length: 5}": 5, "degree: 3": 5, "path_length: 3-8": 8}


@pytest.mark.parametrize(("text", "length"), [*LENGTHS.items()])
def test_the_length_of_any_tasks_answer(text, length, tmp_path):
    """Catches: a comparison of path-star graphs alone; a length of the default size; a range that is no text there."""
    (tmp_path / "common.yaml").write_text(text)
    options = {"heads": "answer_length", "depths": "answer_length - 1"}
    made = grid.write_recipes(tmp_path / "common.yaml", {"objectives": {"a": {"objective_options": options}}}, tmp_path)
    found = command_line.read_recipe(made["a",])["objective_options"]
    assert found == {"heads": length, "depths": length - 1}


def swept(folder, recipe, *words):
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return grid.flag_axes(words, folder / "recipe.yaml")


def test_axes_of_flags_by_hand(tmp_path):
    """Catches: a number kept as text, a mapping cut at its comma, the recipe's own value under a second name."""
    recipe = {"learning_rate": "2e-3", "model": "gpt2-1x16"}
    assert swept(tmp_path, recipe, "learning_rate=1e-3,0.002", "lora={r: 8, dropout: 0.1},null", "degree=2-4,3") == {
        "learning_rate": {"learning_rate=0.001": {"learning_rate": 0.001}, "": {"learning_rate": 0.002}},
        "lora": {"lora=r_8_dropout_0.1": {"lora": {"r": 8, "dropout": 0.1}}, "lora=-": {"lora": None}},
        "degree": {"degree=2-4": {"degree": "2-4"}, "degree=3": {"degree": 3}},
    }
    (choice, _) = swept(tmp_path, recipe, "model=some/checkpoint,x")["model"]
    assert choice == "model=some_checkpoint"


def test_one_change_at_a_time_by_hand(tmp_path):
    """Catches: the recipe itself left out, two changes in one run, an axis that has no value of its own left out."""
    (tmp_path / "recipe.yaml").write_text("{learning_rate: 0.002, seed: 1}")
    axes = {"objectives": {"a": {"order": "forward"}, "b": {"order": "reversed"}}}
    swept = grid.flag_axes(["learning_rate=1e-3,2e-3", "degree=3,4"], tmp_path / "recipe.yaml")
    made = grid.write_recipes(tmp_path / "recipe.yaml", axes | grid.one_at_a_time(swept), tmp_path / "out")
    changes = ["", "-learning_rate=0.001", "-degree=3", "-degree=4"]
    assert [path.stem for path in made.values()] == [entry + change for entry in "ab" for change in changes]
    written = [{**yaml.safe_load(path.read_text()), "order": "."} for path in made.values()]
    own = {"learning_rate": 0.002, "seed": 1, "order": "."}
    assert written == [own, own | {"learning_rate": 0.001}, own | {"degree": 3}, own | {"degree": 4}] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in made.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learning_rate"], "give each flag once, as FLAG=VALUE,VALUE"),
        (["learning_rate="], "give each flag once"),
        (["--learning_rate=1"], "give each flag once"),
        (["degree=2", "degree=3"], "give each flag once"),
        (["degree=2,,3"], "cannot be read .*; write values as in a recipe"),
        (["degree=[2"], "cannot be read"),
        (["learning_rate=1e-3,0.001"], "two values would be named 'learning_rate=0.001'"),
        (["model=a/b,a b"], "two values would be named 'model=a_b'"),
        (["objective=hybrid"], "objectives are compared by the list of --objectives"),
        (["output_dir=a,b"], "it is set for each run"),
    ],
)
def test_axes_that_are_none(words, message, tmp_path):
    """Catches: a point run twice under two names, one whose recipe another one's overwrites, a traceback."""
    with pytest.raises(ValueError, match=message):
        swept(tmp_path, {"model": "gpt2-1x16"}, *words)


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"model": "gpt2-2x32"}, {"config_overrides": {"n_head": 2}, "degree": 3}),
        ({"model": "llama-2x32"}, {"degree": 3}),
        ({"config_overrides": {"n_inner": 8}}, {"config_overrides": {"n_head": 2, "n_inner": 8}, "degree": 3}),
        ({"config_overrides": {"n_head": None}}, {"config_overrides": {}, "degree": 3}),
        ({"lr_scheduler_type": "cosine"}, {"config_overrides": {"n_head": 2}, "degree": 3}),
        ({"task": "sort"}, {"config_overrides": {"n_head": 2}}),
        ({"task": "tree_star"}, {"config_overrides": {"n_head": 2}, "degree": 3}),
    ],
)
def test_a_point_overrides_as_flags_do(choice, kept, tmp_path):
    """Catches: settings of GPT-2 for a Llama, those of another task, a mapping whose other entries are gone."""
    recipe = {"degree": 3, "config_overrides": {"n_head": 2}}
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(recipe))
    (path,) = grid.write_recipes(tmp_path / "common.yaml", {"point": {"a": choice}}, tmp_path / "out").values()
    written = command_line.read_recipe(path)
    assert {name: value for name, value in written.items() if name in recipe} == kept
    flags = [part for name, value in choice.items() for part in (f"--{name}", flag(value))]
    by_flags = command_line.parse([str(tmp_path / "common.yaml"), *flags, "--use_cpu", "true"])
    by_point = command_line.parse([str(path), "--use_cpu", "true"])
    assert (by_point.task, by_point.model) == (by_flags.task, by_flags.model)


def flag(value):
    return json.dumps(value) if isinstance(value, dict) else str(value)
