"""What is written down about a run: portable arguments, a recipe that repeats it, versions with the commit."""

import json
import subprocess

import pytest

from nt_failures.experiments import command_line
from nt_failures.hub import environment, json_files
from nt_failures.hub.recipe import recipe
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import changed_arguments

HEAD = ["--task", "path_star", "--degree", "3", "--path_length", "4", "--num_nodes", "17", "--objective", "hybrid"]
FLAGS = [*HEAD, "--objective_options", '{"share": 0.25}', "--learning_rate", "0.01", "--max_steps", "7", "--seed", "3"]
FLAGS += ["--lr_scheduler_type", "cosine", "--report_to", "none", "--optimizer", "muon", "--use_cpu", "true"]


def test_a_recipe_repeats_the_run_and_nothing_around_it(tmp_path):
    """Catches: a recipe that loses a flag, cannot be read again, publishes again or resumes somebody's checkpoint."""
    once = ["--push_to_hub", "true", "--hub_model_id", "a/b", "--hub_token", "hf_secret", "--run_name", "x"]
    given = command_line.parse([*FLAGS, *once, "--output_dir", str(tmp_path)]).to_dict()
    written = recipe(given)
    assert written["task"] == "path_star"
    assert (written["degree"], written["objective_options"], written["seed"]) == (3, {"share": 0.25}, 3)
    assert not any(name.startswith("hub_") or name in ("push_to_hub", "run_name", "output_dir") for name in written)
    (tmp_path / "recipe.yaml").write_text(json.dumps(written))  # JSON is YAML
    again = command_line.parse([str(tmp_path / "recipe.yaml")]).to_dict()
    plain = command_line.parse(FLAGS).to_dict()
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(plain))


def test_arguments_hold_no_token_and_no_folder_of_this_machine(tmp_path):
    """Catches: a token, an output folder or a home directory in arguments.json."""
    (tmp_path / "base").mkdir()
    flags = ["--model", str(tmp_path / "base"), "--hub_token", "hf_secret", "--output_dir", str(tmp_path / "out")]
    written = json.dumps(command_line.parse(flags).to_dict())
    assert str(tmp_path) not in written
    assert "hf_secret" not in written
    assert '"model": "base"' in written


def test_portable_values():
    """Catches: a path deep in an option that stays, or a relative name that is cut."""
    given = {"a": "/home/me/run", "b": ["/x/y", 1, None], "c": {"d": "outputs/run", "e": "gpt2-4x64"}}
    wanted = {"a": "run", "b": ["y", 1, None], "c": {"d": "outputs/run", "e": "gpt2-4x64"}}
    assert json_files.portable(given) == wanted


def test_only_what_was_changed(tmp_path):
    """Catches: a hundred defaults on a card, or a changed value left out."""
    args = ObjectiveTrainingArguments(str(tmp_path), learning_rate=0.5, use_cpu=True, hub_token="hf_secret")
    changed = changed_arguments(args)
    assert changed["learning_rate"] == 0.5
    assert len(changed) < 15
    assert "hf_secret" not in str(changed)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit and `environment.__file__` in it."""
    environment.commit.cache_clear()
    package = tmp_path / "nt_failures" / "hub"
    package.mkdir(parents=True)
    (package / "environment.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    yield tmp_path
    environment.commit.cache_clear()


def test_the_commit_and_whether_it_is_all(checkout):
    """Catches: a commit claimed for code that was changed since."""
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert environment.commit() == environment.versions()["commit"] == head.strip()
    environment.commit.cache_clear()
    (checkout / "nt_failures" / "hub" / "environment.py").write_text("2")
    assert environment.commit() == f"{head.strip()} and uncommitted changes"


def test_an_installed_package_has_no_commit(checkout, monkeypatch):
    """Catches: the commit of the user's own repository, in which the package is installed, taken for ours."""
    inner = checkout / "venv" / "nt_failures" / "hub"
    inner.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(inner / "environment.py"))
    assert environment.commit() is None
    assert "commit" not in environment.versions()
