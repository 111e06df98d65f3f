"""The command line: recipes, flags over recipes, the user's own classes, and errors of one line that say what to
type."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.integrations import integration_utils

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.experiments import command_line, flags
from nt_failures.experiments.command_line import parse
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.experiments.study import grid
from nt_failures.hub.recipe import read_yaml, yaml_text
from nt_failures.models.families import from_scratch
from nt_failures.objectives import find_objective
from nt_failures.tasks.path_star import PathStar

OTHERS = ("objectives", "own_reach", "one_pass", "map", "rates", "grpo")
"""Axes of recipes (test_grid.py), and one for TRL's command."""
RECIPES = sorted(
    path for path in (Path(__file__).parents[2] / "examples" / "recipes").rglob("*.yaml") if path.stem not in OTHERS
)


@pytest.fixture
def recipe(tmp_path):
    """`recipe(text)`: the path of a recipe with this text."""

    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_flags_override_the_recipe(recipe):
    """Catches: a recipe that wins over a flag, or a default that wins over the recipe."""
    path = recipe("degree: 3\npath_length: 4\nmodel: gpt2-1x16\nmax_steps: 7\nlearning_rate: 0.5\nseed: 4\nbf16: false")
    args = parse([path, "--degree", "5", "--seed=6", "--max-steps", "8", "--output_dir", "here", "--use_cpu"])
    assert args.task == PathStar(5, 4, 50)
    assert args.model.model == "gpt2-1x16"
    training = args.training
    assert (training.max_steps, training.learning_rate, training.seed, training.output_dir) == (8, 0.5, 6, "here")
    assert args.data.num_train == 200_000
    assert set(args.given) == {
        *("degree", "path_length", "model", "max_steps", "learning_rate", "seed", "bf16", "output_dir", "use_cpu")
    }


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    """Catches: a recipe that an editor of Windows saved, of which the first name is not known."""
    path = tmp_path / "mine.yaml"
    path.write_text("max_steps: 7\nseed: 3\n", encoding="utf-8-sig")
    assert command_line.read_recipe(path) == {"max_steps": 7, "seed": 3}


def test_hyphens_count_as_underscores(recipe):
    """Catches: an `--output-dir` that is read and then replaced by the default folder."""
    args = parse(["--output-dir", "here", "--objective", "hybrid", "--objective-options", '{"share": 0.1}'])
    assert args.training.output_dir == "here"
    assert "output_dir" in args.given
    assert args.objective.objective_options == {"share": 0.1}


def test_default_recipe(recipe, tmp_path):
    """Catches: a quickstart that is dropped as soon as a flag is given, or mixed into another recipe."""
    quickstart = tmp_path / "quickstart.yaml"
    quickstart.write_text("seed: 9\nmax_steps: 3", encoding="utf-8")
    assert parse([], default_recipe=quickstart).training.seed == 9
    args = parse(["--max_steps", "4"], default_recipe=quickstart)
    assert (args.training.seed, args.training.max_steps) == (9, 4)
    assert parse([recipe("max_steps: 5")], default_recipe=quickstart).training.seed == 42


def test_recipes_of_the_library_by_name(recipe):
    """Catches: a name that is looked for in the working directory, flags lost behind it, a path that is no name."""
    args = parse(["--max_steps", "3", "--recipe", "quickstart", "--order", "reversed"])
    assert (args.task.num_nodes, args.training.max_steps, args.objective.order) == (50, 3, "reversed")
    assert parse(["--recipe=small/gpt2-reversed"]).task == PathStar(2, 4, 10)
    assert parse(["--recipe", recipe("max_steps: 5"), "--seed", "1"]).training.max_steps == 5


@dataclasses.dataclass(frozen=True)
class OneArm(PathStar):
    """A task without the parameter `degree`, beside the one it inherits."""

    extra: int = 1


def test_a_task_of_your_own_drops_what_it_does_not_have(recipe):
    """Catches: parameters of the recipe's task that stop another one, or go although both have them."""
    path = recipe(f"task: {__name__}.OneArm\ndegree: 3\nextra: 4\nseed: 6")
    assert parse([path]).task == OneArm(3, extra=4)
    args = parse([path, "--task", "path_star"])
    assert args.notes == ["of the task's parameters in the recipe: dropped extra=4"]
    assert (args.task, args.training.seed) == (PathStar(3), 6)
    with pytest.raises(ValueError, match="unknown name 'extra'"):
        parse([recipe("extra: 4")])


@pytest.mark.parametrize(
    ("name", "argv"),
    # The short help does not look at the training's flags, as it needs no torch.
    [("seed", []), *itertools.product(("order", "num_train", "overlap", "help", "recipe"), ([], ["--help"]))],
)
def test_a_field_with_the_name_of_a_flag(name, argv, monkeypatch):
    """Catches: a traceback of argparse's, or a flag that sets two things."""
    fields = [(name, int, dataclasses.field(default=1))]
    cls = dataclasses.make_dataclass("Clashing", fields, bases=(PathStar,), frozen=True)
    monkeypatch.setattr(command_line, "find_task", lambda name: cls)
    with pytest.raises(ValueError, match=rf"^Clashing has a field '{name}', which is a flag of every run; .*name, or"):
        parse(argv)


@pytest.mark.parametrize("number", ["5e-4", "5.0e-4", "0.0005", "'0.0005'"])
def test_numbers_as_people_write_them(recipe, number):
    """Catches: YAML's `5e-4`, which is text."""
    assert parse([recipe(f"learning_rate: {number}")]).training.learning_rate == 5e-4


@pytest.mark.parametrize("number", ["5e-4", "5.0e-4", "0.0005", "+.5E-3", "5.e-4"])
def test_numbers_in_mappings(recipe, number):
    """Catches: a number that reaches the model as text; text that a recipe of ours quotes, read as a number."""
    options = parse([recipe(f"config_overrides: {{layer_norm_epsilon: {number}}}")]).model.config_overrides
    assert options == {"layer_norm_epsilon": 5e-4}
    assert read_yaml(yaml_text({"run_name": number, "seed": 5e-4})) == {"run_name": number, "seed": 5e-4}


@pytest.mark.parametrize("name", ["2024_01", "2024-01-05", "010", "12:30", "1.10", "1e3", "no", "'no'"])
def test_names_that_yaml_takes_for_something_else(recipe, name):
    """Catches: a run in the folder 202401 that was told 2024_01, and a date that stops it."""
    args = parse([recipe(f"output_dir: {name}\nsave_strategy: no\nbf16: off\nseed: 1_000")])
    assert args.training.output_dir == name.strip("'")
    assert (args.training.save_strategy, args.training.bf16, args.training.seed) == ("no", False, 1000)


def test_mappings_in_recipes_and_json_in_flags(recipe):
    """Catches: options that stay text, an empty default shared by two runs."""
    path = recipe("config_overrides: {n_head: 2}\nobjective: hybrid\nobjective_options: {share: 0.25}")
    args = parse([path])
    assert args.model.config_overrides == {"n_head": 2}
    assert args.objective.objective_options == {"share": 0.25}
    args = parse([path, "--objective_options", '{"share": 0.75}', "--lora", '{"r": 4}'])
    assert args.objective.objective_options == {"share": 0.75}
    assert args.model.lora == {"r": 4}
    args = parse(["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", '{"min_lr_rate": 0.1}'])
    assert args.training.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert parse([]).model.config_overrides == {}


@pytest.mark.parametrize("name", ["objective_options", "config_overrides"])
def test_a_mapping_with_nothing_below_it_is_empty(recipe, name, tmp_path):
    """Catches: a trace for a recipe whose options are commented out."""
    path = Path(recipe(f"model: gpt2-1x16\n{name}:"))
    args = parse([str(path)])
    assert {"objective_options": args.objective, "config_overrides": args.model}[name].__dict__[name] == {}
    ((_, made),) = grid.write_recipes(path, {}, tmp_path / "made").items()
    assert parse([str(made)]).to_dict() == args.to_dict()


def test_another_objective_drops_the_recipes_options(recipe):
    """Catches: `share` given to an objective that has none; the recipe's own objective, named again, without its
    options."""
    path = recipe("objective: hybrid\nobjective_options: {share: 0.25}")
    other = parse([path, "--objective", "teacherless"])
    assert other.objective.objective_options == {}
    assert other.notes == ["of objective_options in the recipe: dropped share=0.25"]
    assert parse([path, "--order", "reversed"]).objective.objective_options == {"share": 0.25}
    assert parse([path, "--objective", "hybrid"]).objective.objective_options == {"share": 0.25}


OWN = '''
import dataclasses

from nt_failures.objectives import NextToken
from nt_failures.tasks import PathStar


@dataclasses.dataclass(frozen=True)
class Twisted(PathStar):
    """A task of one's own with a knob of its own."""

    twist: int = 1


@dataclasses.dataclass(frozen=True)
class Own(NextToken):
    """An objective of one's own."""
'''


def test_own_task_and_objective(tmp_path, monkeypatch, recipe):
    """Catches: a task outside the package without flags for its knobs, in a flag or in a recipe."""
    (tmp_path / "somebodys.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    args = parse(["--task", "somebodys.Twisted", "--twist", "4", "--degree", "3", "--objective", "somebodys.Own"])
    assert (type(args.task).__name__, args.task.twist, args.task.degree) == ("Twisted", 4, 3)
    assert find_objective(args.objective.objective).__name__ == "Own"
    assert parse([recipe("task: somebodys.Twisted\ntwist: 6")]).task.twist == 6
    with pytest.raises(ValueError, match=r"'somebodys\.Own' is no whole class derived from nt_failures\.tasks"):
        parse(["--task=somebodys.Own"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("learning_rat: 0.1", r"recipe\.yaml: unknown name 'learning_rat'\. Did you mean 'learning_rate'"),
        ("no_skip_memory_metrics: 1", r"unknown name 'no_skip_memory_metrics'"),  # which is a flag
        ("zzzz: 1", r"unknown name 'zzzz'\. See --help"),
        ("recipe: quickstart", r"unknown name 'recipe'"),
        ("help: 1", r"unknown name 'help'"),
        ("degree: [1", r"recipe\.yaml is not valid YAML"),
        ("- degree", r"must be a mapping .* such as 'learning_rate: 0\.001'"),
        ("", r"must be a mapping"),
        ("1: 2", r"must be a mapping"),
        ("max_steps: 2.5", r"max_steps.* invalid int value: '2\.5'"),
        ("num_train: many", r"num_train.* invalid int value: 'many'"),
        ("num_train: 0", r"num_train=0 is out of range; .* num_train >= 1"),
        ("num_test: 0", r"num_test=0 is out of range; give a whole number, num_test >= 1"),  # nothing to measure
        ("num_validation: 0", r"num_validation=0 is out of range; give a whole number, num_validation >= 1"),
        ("num_train: null", r"--num_train: null is no value of it; give one, or leave the line out"),
        ("skip_memory_metrics: null", r"--skip_memory_metrics: null is no value of it"),  # HfArgumentParser: False
        ("train_sampling_strategy: squential", r"invalid choice: 'squential' .*Did you mean 'sequential'"),
        ("log_level: quiet", r"--log_level: invalid choice: 'quiet'"),
        ("degree: 30", r"give num_nodes >= 121"),
        ("config_overrides: 3", r"config_overrides=3 is not a JSON object"),
        ("task: path_sta", r"unknown name 'path_sta'\. Did you mean 'path_star'"),
    ],
)
def test_bad_recipes(recipe, text, reason):
    """Catches: a key that is dropped, a number that is rounded, an error without the name or without a way out."""
    with pytest.raises(ValueError, match=reason):
        parse([recipe(text)])


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--learning_rat", "1"], r"command line: unknown name 'learning_rat'\. Did you mean 'learning_rate'"),
        (["--max_step=3"], r"Did you mean 'max_steps'"),
        (["--max_steps", "abc"], r"max_steps.* invalid int value: 'abc'"),
        (["--max_steps"], r"max_steps.* expected one argument"),
        (["--save_steps=often"], r"save_steps.* invalid float value: 'often'"),
        (["--use_cpu=perhaps"], r"use_cpu.* Truthy value expected"),
        (["--sample_rows=few"], r"sample_rows.* invalid int value: 'few'"),
        (
            ["--lr_scheduler_type", "cosin"],
            r"invalid choice: 'cosin' \(choose from .*\)\. Did you mean 'cosine'\? See --help_all",
        ),
        (["--degree", "2", "stray"], r"'stray' belongs to no flag"),
        (["--objective_options", "{share: 1}"], r"objective_options='{share: 1}' is not JSON .*'{\"key\": value}'"),
        (["--objective_options", "[1]"], r"is not a JSON object"),
        (["--task", "nowhere.Task"], r"cannot import 'nowhere'.* PYTHONPATH"),
        (["--optimizer", "moun"], r"invalid choice: 'moun' \(choose from .*\)\. Did you mean 'muon'\?"),
        (
            ["--optim", "adamw_troch"],
            r"invalid choice: 'adamw_troch' \(choose from .*\)\. Did you mean 'adamw_torch'\?",
        ),
        (["--save_strategy", "zzz"], r"invalid choice: 'zzz' \(choose from .*\)\. See --help_all"),
        (["--recipe", "quikstart"], r"^--recipe 'quikstart' is no recipe .* Did you mean 'quickstart'\? They lie in"),
        (["--recipe"], r"^--recipe '' is no recipe of this library\."),
        (["a.yaml", "--recipe", "quickstart"], r"'a\.yaml' and --recipe quickstart are two recipes"),
        (["no_such_recipe.yaml"], r"no_such_recipe\.yaml does not exist; give a file, --recipe NAME"),
        (["/"], r"recipe '/' cannot be read"),
    ],
)
def test_bad_flags(argv, reason, capsys):
    """Catches: an abbreviation that is guessed, 150 flags of usage, a SystemExit or another error than ValueError."""
    with pytest.raises(ValueError, match=reason):
        parse(argv)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_examples(path):
    """Catches: a recipe with a flag that no longer exists, or options that its objective does not take."""
    args = parse([str(path), "--use_cpu", "true"])  # bf16 is refused on a machine without a GPU, unless asked for
    objective_class = find_objective(args.objective.objective)
    tokenizer = word_level_tokenizer(args.task)
    objective = objective_class.from_tokenizer(
        tokenizer, order=args.objective.order, **args.objective.objective_options
    )
    assert objective.order == args.objective.order
    assert from_scratch(args.model.model) or args.model.model in ("gpt2", "gpt2-large", "outputs/smollm2")
    assert args.training.max_steps > 0 or args.training.num_train_epochs > 3


def test_there_are_recipes():
    """Catches: a scan of the wrong folder, which would pass with nothing tested."""
    assert {"quickstart", "hybrid"} <= {path.stem for path in RECIPES}


def test_a_run_describes_itself(recipe):
    """Catches: arguments.json without the task's knobs, without what was changed, or with an access token."""
    args = parse([recipe("degree: 3\nlearning_rate: 0.25"), "--output_dir", "here", "--hub_token", "hf_secret"])
    described = args.to_dict()
    text = json.dumps(described)
    assert described["task"] == {"degree": 3, "path_length": 5, "num_nodes": 50}
    assert described["training"]["learning_rate"] == 0.25
    assert "adam_beta1" not in described["training"]
    assert described["objective"] == {"objective": "next_token", "order": "forward", "objective_options": {}}
    assert "hf_secret" not in text


GPT2 = "model: gpt2-1x16\nconfig_overrides: {n_head: 2, n_inner: 64}\n"


@pytest.mark.parametrize(
    ("flags", "overrides", "notes"),
    [
        (["--seed", "1"], {"n_head": 2, "n_inner": 64}, []),
        (["--model", "gpt2-1x16"], {"n_head": 2, "n_inner": 64}, ["kept n_head=2, n_inner=64"]),
        (["--model=gpt2-2x16"], {"n_head": 2, "n_inner": 64}, ["kept n_head=2, n_inner=64"]),
        (["--model", "mamba-1x16"], {}, ["dropped n_head=2, n_inner=64"]),
        (["--model", "gpt2"], {}, ["dropped n_head=2, n_inner=64"]),  # a checkpoint, which has a shape of its own
        (["--config_overrides", '{"n_head": 4}'], {"n_head": 4, "n_inner": 64}, ["kept n_inner=64; dropped n_head=2"]),
        (["--config-overrides", '{"n_head": null}'], {"n_inner": 64}, ["kept n_inner=64; dropped n_head=2"]),
        (["--config_overrides", '{"n_inner": 64}'], {"n_head": 2, "n_inner": 64}, ["kept n_head=2, n_inner=64"]),
        (["--config_overrides", '{"n_layer": null}'], {"n_head": 2, "n_inner": 64, "n_layer": None}, None),
        (
            ["--model", "mamba-1x16", "--config_overrides", '{"state_size": 4}'],
            {"state_size": 4},
            ["dropped n_head=2, n_inner=64"],
        ),
    ],
)
def test_flags_change_part_of_the_recipes_model(recipe, flags, overrides, notes):
    """Catches: the rest of the recipe's model dropped, in silence, by a flag that changes one number of it, or names
    the model that it has; GPT-2's settings put on a Mamba, or scrambling the heads of a checkpoint."""
    args = parse([recipe(GPT2), *flags])
    assert args.model.config_overrides == overrides
    if notes is not None:
        assert args.notes == [f"of config_overrides in the recipe: {text}" for text in notes]


def test_other_mappings_of_the_recipe(recipe):
    """Catches: a schedule with the numbers of another one, which ends in a traceback or is recorded and not used; the
    rest of an adapter's or a schedule's numbers dropped for one of them."""
    path = recipe("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.05}\nlora: {r: 8}")
    assert parse([path, "--lr_scheduler_type", "linear"]).training.lr_scheduler_kwargs == {}
    assert parse([path, "--lr_scheduler_kwargs", '{"num_cycles": 1}']).training.lr_scheduler_kwargs == {
        "min_lr_rate": 0.05,
        "num_cycles": 1,
    }
    assert parse([path, "--lora", '{"lora_alpha": 4}']).model.lora == {"r": 8, "lora_alpha": 4}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lr_scheduler_type", "warmup_stable_decay"], "num_decay_steps"),
        (["--lr_scheduler_kwargs", '{"min_lr_rate": 0.1}'], "min_lr_rate"),
    ],
)
def test_a_schedule_that_cannot_be_made(flags, said):
    """Catches: a traceback of transformers' after the data are built and the folder of an earlier run is cleared."""
    with pytest.raises(ValueError, match=rf"lr_scheduler_type=.* cannot be made .*{said}.*; change"):
        parse(flags)


@pytest.mark.parametrize(
    ("rows", "rule"), [("-2", "cannot be used; give a whole number >= 0"), ("101", "is not in 0..100")]
)
def test_sample_rows_in_range(rows, rule):
    """Catches: thousands of rows written over the terminal."""
    with pytest.raises(ValueError, match=f"sample_rows={rows} {re.escape(rule)}"):
        parse(["--sample_rows", rows])


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        (
            "--muon_learning_rate 0.3",
            "muon_learning_rate",
            "as optimizer='adamw' has no such rate; add --optimizer muon",
        ),
        ("--max_steps 9 --num_train_epochs 7", "num_train_epochs", "as max_steps=9 ends the run; add --max_steps -1"),
        (
            "--save_steps=2 --save_strategy no",
            "save_steps",
            "as save_strategy='no' saves nothing; add --save_strategy steps",
        ),
        ("--eval_steps 2", "eval_steps", "as eval_strategy='no' evaluates nothing; add --eval_strategy steps"),
        ("--hub_model_id a/b", "hub_model_id", "as nothing is pushed; add --push_to_hub true"),
        ("--do_train false", "do_train", "as a run trains, evaluates and tests; leave it out"),
    ],
)
def test_flags_that_would_change_nothing(flags, name, said):
    """Catches: a flag that is written into recipe.yaml and the card, and was never used."""
    with pytest.raises(ValueError, match=rf"--{name} would change nothing(,|:) {said}"):
        parse(flags.split())


def test_a_recipe_may_hold_what_a_flag_makes_idle(recipe):
    """Catches: `--optimizer adamw` refused for the Muon rate of the recipe that it overrides."""
    path = recipe("optimizer: muon\nmuon_learning_rate: 0.01\n")
    assert parse([path, "--optimizer", "adamw"]).training.optimizer == "adamw"


def test_a_recipe_comes_first(recipe):
    """Catches: a recipe that a flag before it swallows, with a word about truth values; no step at all taken for
    one."""
    path = recipe("max_steps: 5\n")
    with pytest.raises(ValueError, match=r"the recipe '.*recipe\.yaml' must be the first word, before all flags"):
        parse(["--overwrite_output_dir", path])
    with pytest.raises(ValueError, match="max_steps=0 would train nothing; give at least 1, or -1"):
        parse(["--max_steps", "0"])


@pytest.mark.parametrize("flag", ["prediction_loss_only", "remove_unused_columns"])
def test_flags_that_would_break_the_run(flag):
    """Catches: a KeyError after hours of training."""
    with pytest.raises(ValueError, match=rf"{flag}=True would .*; leave it out"):
        parse([f"--{flag}", "true"])
    with pytest.raises(ValueError, match=r"eval_do_concat_batches=False .*; leave it out"):
        parse(["--eval_do_concat_batches", "false"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--train_sampling_strategy", "group_by_length"), "='group_by_length' looks for input_ids, which"),
        (("--train_sampling_strategy", "batch_rebalance"), "='batch_rebalance' looks for input_ids, which"),
        (("--metric_for_best_model", "eval_accuracy"), "='accuracy' is measured by no evaluation; give loss, decision"),
        (("--metric_for_best_model", "cheat/follow_rate"), "='cheat/follow_rate' is measured by no evaluation"),
    ],
)
def test_what_would_fail_in_the_middle_is_refused_at_once(flags, said):
    """Catches: hours of training before the first evaluation, or an earlier run cleared, before an argument fails."""
    with pytest.raises(ValueError, match=f"{flags[0][2:]}{said}"):
        parse([*flags])
    for metric in ("loss", "eval_loss", "free/exact", "eval_forced/position_2", "free/creativity", "decision"):
        parse(["--metric_for_best_model", metric])


def test_stop_when_solved_in_range():
    """Catches: a run that is said to be solved after less than no evaluation."""
    assert parse(["--stop_when_solved", "2", "--eval_strategy", "epoch"]).training.stop_when_solved == 2
    with pytest.raises(
        ValueError, match=r"stop_when_solved=2 has no evaluations to stop at; add --eval_strategy steps"
    ):
        parse(["--stop_when_solved", "2"])
    with pytest.raises(ValueError, match="stop_when_solved=-1 cannot be used; give a whole number >= 0"):
        parse(["--stop_when_solved", "-1"])


def test_several_trackers(recipe, monkeypatch):
    """Catches: all but one tracker refused, the words `none` and `all` read as trackers, a list in a recipe refused."""
    for name in ("trackio", "tensorboard"):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, object)  # installed or not
    assert parse(["--report_to", "trackio", "tensorboard", "--seed", "1"]).training.report_to == [
        "trackio",
        "tensorboard",
    ]
    assert parse(["--report_to", "trackio"]).training.report_to == ["trackio"]
    assert parse([recipe("report_to: [trackio, tensorboard]")]).training.report_to == ["trackio", "tensorboard"]
    assert parse([recipe("report_to: trackio")]).training.report_to == ["trackio"]
    assert parse([recipe("report_to: trackio"), "--report_to", "none"]).training.report_to == []
    assert parse([]).training.report_to == []


def test_a_tracker_that_does_not_exist():
    """Catches: a typo that the Trainer finds after the data are built."""
    with pytest.raises(ValueError, match=r"report_to=tensorbord: tensorbord is not supported, only .*tensorboard"):
        parse(["--report_to", "tensorbord"])


def test_help_needs_no_torch(recipe):
    """Catches: an import that makes --help take seconds; help without the task's parameters explained, with the
    defaults of no recipe, or that lists no other flags."""
    path = recipe("degree: 3\nnum_nodes: 40\nmax_steps: 7\nseed: 5")
    code = "import sys; from nt_failures.experiments import command_line\ntry: command_line.parse(sys.argv[1:])"
    code += "\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, path, "--help"], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), (done.stdout, done.stderr)
    text = " ".join(done.stdout.split())
    for told in (r"arms of the star, [^(]*\(default: 3\)", r"nodes of an arm, [^(]*\(default: 5\)"):
        assert re.search(told, text)
    assert re.search(r"labels to draw from, .* nodes of the largest graph\. \(default: 40\)", text)
    assert "--help_all explains them" in text
    assert all(flag in text for flag in ("--num_train", "--model", "--objective_options", "--muon_learning_rate"))
    assert "sets, beside the defaults above: max_steps=7, seed=5." in text


def test_flags_that_are_not_plain(recipe):
    """Catches: JSON with a blank taken for the value of the flag before it; a flag refused that may stand alone, or
    have several values."""
    path = recipe("logging_steps: 0.5\nreport_to: [none]\nlr_scheduler_type: cosine_with_restarts")
    flags = [
        "--use_cpu",
        "--no_average_tokens_across_devices",
        '--lr_scheduler_kwargs={"num_cycles": 1}',
        "--include_num_input_tokens_seen",
    ]
    training = parse([path, *flags, "--include_for_metrics", "loss", "inputs"]).training
    assert (training.use_cpu, training.lr_scheduler_kwargs, training.logging_steps) == (True, {"num_cycles": 1}, 0.5)
    assert (training.include_for_metrics, training.average_tokens_across_devices) == (["loss", "inputs"], False)


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--batch_size", "'per_device_train_batch_size'"),
        ("--lr", "'learning_rate'"),
        ("--epochs", "'num_train_epochs'"),
        ("--labels", "'num_nodes'"),
        ("--n-head", """--config_overrides '{"n_head": ...}'"""),
        ("--hidden_size", """--config_overrides '{"hidden_size": ...}'"""),
        ("--share", """--objective_options '{"share": ...}'"""),
        ("--learning_rat", "'learning_rate'"),
    ],
)
def test_what_a_flag_was_meant_for(recipe, flag, meant):
    """Catches: a suggestion that leads astray: `lora` for --lr, `label_names` for --labels."""
    with pytest.raises(ValueError, match=re.escape(f"Did you mean {meant}?")):
        parse([recipe("objective: hybrid\nobjective_options: {share: 0.5}"), flag, "2"])
    for known in flags.MEANT.values():
        assert known in flags.parser_of(PathStar, RunArguments).names


@dataclasses.dataclass(frozen=True)
class NoDefault(PathStar):
    """A task with a parameter that has no default.

    Args:
        extra: one that is
            told of in two lines, at 100 %.
    """

    extra: int = dataclasses.field(kw_only=True)


def test_a_parameter_without_a_default(recipe, capsys):
    """Catches: a recipe's value for it that is asked for again as a flag; a percent sign that breaks the help."""
    path = recipe(f"task: {__name__}.NoDefault\nextra: 4")
    assert parse([path]).task == NoDefault(extra=4)
    with pytest.raises(ValueError, match="required: --extra"):
        parse(["--task", f"{__name__}.NoDefault"])
    with pytest.raises(SystemExit):
        parse([path, "--help"])
    assert "one that is told of in two lines, at 100 %. (default: 4)" in " ".join(capsys.readouterr().out.split())


def test_all_flags(capsys):
    """Catches: a flag of TrainingArguments that no help explains."""
    with pytest.raises(SystemExit):
        command_line.parse(["--help_all"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--adam_beta1", "--degree", "--sample_rows", "--optimizer"))


def test_import_needs_no_torch():
    """Catches: a module imported by `nt_failures` itself that brings torch along; the name that it is to register."""
    code = "import sys, nt_failures, datasets; print('torch' in sys.modules, 'transformers' in sys.modules)"
    code += "; print(datasets.get_dataset_default_config_name('nt_failures/pathstar'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "deg2-path5-nodes50"], done.stderr


@dataclasses.dataclass(frozen=True)
class Marked(PathStar):
    """Path-star with a text among its parameters."""

    mark: str = "+"


def test_a_parameter_of_a_task_is_no_path(tmp_path):
    """Catches: a text that begins as a path does shortened to its end, so that the recipe is another task's."""
    args = command_line.parse(["--task", f"{__name__}.Marked", "--mark", "/", "--output_dir", str(tmp_path)])
    assert (args.to_dict()["task"]["mark"], args.to_dict()["data"].get("train_file")) == ("/", None)
