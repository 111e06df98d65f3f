"""Recipes, flags and YAML: whatever stands there, arguments that are as given or one refusal that names the culprit."""

import copy

import pytest
import yaml
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st

from nt_failures.experiments.command_line import parse, read_recipe
from nt_failures.hub.json_files import not_finite
from nt_failures.training.arguments import RunArguments
from nt_failures.training.limits import LIMITS, check_numbers

ARGS = RunArguments("outputs/none", use_cpu=True)

KNOWN = ["degree", "path_length", "num_nodes", "num_train", "num_test", "dataset_seed", "overlap", "model", "task"]
KNOWN += [
    "config_overrides",
    "objective",
    "objective_options",
    "order",
    "sample_rows",
    "learning_rate",
    "max_steps",
    "seed",
]
KNOWN += [
    "bf16",
    "report_to",
    "eval_strategy",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "optim",
    "warmup_steps",
    "streaming",
]
KNOWN += [
    "per_device_train_batch_size",
    "logging_steps",
    "output_dir",
    "resume_from_checkpoint",
    "tokenizer",
    "save_steps",
]
VALUES = st.one_of(
    ODD, st.sampled_from(["true", "1e3", "{}", "[]", '{"a": 1}', "[" * 2000, "next_token", "forward", "nan", "\0"])
)
NAMES = st.one_of(st.sampled_from(KNOWN), st.sampled_from(KNOWN).map(lambda name: name[:-1]), st.text(max_size=6))


def plain(value):
    """As one would type it."""
    return value if isinstance(value, str) else str(value)


@fuzz(150, recipe=st.dictionaries(NAMES, VALUES, min_size=1, max_size=2))
def test_recipes(recipe, tmp_path_factory):
    """Catches: a list where a number belongs, a mapping where a name does, and every other TypeError of a recipe."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    args = accepted(lambda: parse([str(path), "--use_cpu"]), "fuzzed.yaml", *recipe, *recipe.values())
    if args is not None and "degree" in recipe:
        assert args.task.degree == int(recipe["degree"])


@fuzz(220, flags=st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=2), glued=st.booleans())
def test_flags(flags, glued):
    """Catches: a flag that is dropped, one that is read as another, and errors in the words of argparse's innards."""
    argv = ["--use_cpu"]
    for name, value in flags:
        argv += [f"--{name}={plain(value)}"] if glued else [f"--{name}", plain(value)]
    words = [word for name, value in flags for word in (name, plain(value), name.split("=")[0])]
    try:
        args = accepted(lambda: parse(argv), *words, "command line", "--help")
    except SystemExit:  # --help
        return
    given = dict(flags)
    if args is not None and "degree" in given:
        assert args.task.degree == int(given["degree"])


@fuzz(1500, name=st.sampled_from(sorted(LIMITS)), value=st.one_of(st.floats(), ODD, st.just(10**400)))
def test_numbers(name, value):
    """Catches: a number of a training that is none, or is out of every range, and is taken."""
    args = copy.copy(ARGS)
    vars(args)[name] = value
    if accepted(lambda: check_numbers(args) or "taken", f"{name}={value!r}") and value is not None:
        assert LIMITS[name].least <= value <= LIMITS[name].largest
        assert type(value) in (int, float)
        assert not_finite(value) == []


@fuzz(
    600,
    text=st.one_of(
        st.text(max_size=60),
        st.text("{}[]:-&*!?|>\n\t '\"#%@a1", max_size=40),
        st.sampled_from(["[" * 2_000, "a: " * 999]),
    ),
)
def test_yaml(text, tmp_path_factory):
    """Catches: YAML that is no mapping, no YAML, or nested beyond reason, and ends in another error."""
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = accepted(lambda: read_recipe(path), "text.yaml")
    assert found is None or isinstance(found, dict)


@pytest.mark.parametrize("name", ["a\0b.yaml", "x" * 5000, ".", "/", "no/such.yaml"])
def test_odd_paths(name):
    """Catches: a path that the system refuses in its own words."""
    accepted(lambda: parse([name]), repr(name)[1:30], name)
