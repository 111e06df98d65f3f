"""examples/push.py and train.py --push_to_hub as a user types them."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import TOKEN
from huggingface_hub import ModelCard

pytestmark = pytest.mark.hub

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def script(monkeypatch):
    """`script(name, *arguments)`: run it in this process; returns what it exits with."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as stop:
            return stop.code

    return run


def test_a_run_is_pushed_by_one_command(online, finished, script, tmp_path, capsys):
    """Catches: a script that does not push, does not say where to, or shows the token; one that fails with a
    traceback."""
    shutil.copytree(finished(), tmp_path / "run")
    capsys.readouterr()
    assert script("push.py", tmp_path / "run", "--repo_id", "tester/it", "--private") is None
    assert capsys.readouterr().out == f"{online.url}/tester/it\n"
    assert online.repos["tester/it"].private
    assert "model.safetensors" in online.files("tester/it")
    message = script("push.py", tmp_path / "run", "--repo_id", "somebody/it")
    assert message.startswith("error: cannot push to 'somebody/it': 403, the token may not write")
    assert "take a token with write access, or another --repo_id;" in message
    assert message.endswith(f"push it with: python examples/push.py {tmp_path / 'run'} --repo_id YOUR_NAME/it")
    assert TOKEN not in message
    assert script("push.py", tmp_path, "--repo_id", "tester/it").startswith("error: ")


def test_a_branch_is_made_and_stays_in_the_advice(online, finished, script, tmp_path):
    """Catches: a bare 404 for a new branch, an empty repository left behind, a branch that the advice forgets."""
    shutil.copytree(finished(), tmp_path / "run")
    push = ("push.py", tmp_path / "run", "--repo_id", "tester/it", "--revision", "dev")
    online.fail_next("POST", "/preupload/", 503, times=20)
    assert script(*push).endswith(f"python examples/push.py {tmp_path / 'run'} --repo_id tester/it --revision dev")
    online.failures.clear()
    assert script(*push) is None
    assert set(online.files("tester/it")) == {".gitattributes"}
    assert "model.safetensors" in online.repos["tester/it"].at("dev")[1]


def test_a_name_that_no_repository_can_have(online, finished, script, tmp_path):
    """Catches: the Hub client's rule of spelling without the flag to repair it; a request or a training before that."""
    shutil.copytree(finished(), tmp_path / "run")
    message = script("push.py", tmp_path / "run", "--repo_id", "tester/my run!")
    assert message.startswith("error: 'tester/my run!' is no name for a repository; give --repo_id NAMESPACE/NAME")
    message = script("train.py", *FLAGS.split(), tmp_path / "my run!")
    assert message.startswith("error: 'my run!' is no name for a repository; give --hub_model_id NAMESPACE/NAME")
    assert not (tmp_path / "my run!").exists()
    assert online.requests == []


def test_a_run_from_a_local_model_says_so(online, script, tmp_path, monkeypatch):
    """Catches: a continued model sold as new and repeatable, or a folder's name that reads as the id of a Hub model."""
    monkeypatch.chdir(tmp_path)
    flags = FLAGS.replace("--push_to_hub true ", "")
    assert script("train.py", *flags.split(), "nt") is None
    for model in ("nt", str(tmp_path / "nt")):
        again = flags.replace("gpt2-1x16", model) + " second --overwrite_output_dir true"
        assert script("train.py", *again.split()) is None
        monkeypatch.chdir(tmp_path / "second")  # here the relative path is no folder
        (tmp_path / "second" / "README.md").unlink()
        assert script("push.py", tmp_path / "second", "--repo_id", "tester/second") is None
        page = ModelCard(online.files("tester/second")["README.md"].decode())
        assert "continued from a local model that is not published (these steps come on top of its own)" in page.text
        assert "They do not give this model again: `model` was read from a local folder" in page.text
        assert "repeats the run" not in page.text
        assert (page.data.base_model, page.data.license) == (None, None)
        recipe = online.files("tester/second")["recipe.yaml"].decode()
        assert "# model: a folder on the machine of the run, not published and no Hub id" in recipe
        assert yaml.safe_load(recipe)["model"] == "nt"
        monkeypatch.chdir(tmp_path)
    assert "continued from" not in (tmp_path / "nt" / "README.md").read_text()
    assert "#" not in (tmp_path / "nt" / "recipe.yaml").read_text()


FLAGS = "--degree 2 --path_length 4 --num_nodes 10 --num_train 64 --num_validation 16 --num_test 40 --max_steps 4"
FLAGS += " --model gpt2-1x16 --use_cpu true --push_to_hub true --sample_rows 0 --disable_tqdm true --output_dir"


def test_training_does_not_start_without_a_token(online, script, tmp_path, monkeypatch):
    """Catches: a run that trains first, clears an earlier run, or ends in a traceback for want of a token."""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    message = script("train.py", *FLAGS.split(), tmp_path / "run")
    assert message.startswith("error: cannot push to 'run': the Hub knows no valid token; log in with `hf auth login`")
    assert message.endswith("nothing was started and nothing written")
    assert not (tmp_path / "run").exists()


def test_a_training_ends_on_the_hub_with_its_results(online, script, tmp_path):
    """Catches: a model pushed before its results and its card are there, or pushed twice."""
    assert script("train.py", *FLAGS.split(), tmp_path / "run", "--hub_model_id", "tester/trained") is None
    assert online.commits("tester/trained") == ["initial commit", "End of training"]
    assert {"results.json", "recipe.yaml", "forced_vs_free.png"} <= set(online.files("tester/trained"))
    assert b"Verdict" in online.files("tester/trained")["README.md"]


def test_the_network_goes_at_the_end_of_a_training(online, script, tmp_path, capsys):
    """Catches: hours of training without a table, results or weights because the last step failed."""
    online.fail_next("POST", "/preupload/", 503, times=20)
    message = script("train.py", *FLAGS.split(), tmp_path / "run", "--hub_model_id", "tester/trained")
    assert "whole path" in capsys.readouterr().out
    assert message.endswith(f"push it with: python examples/push.py {tmp_path / 'run'} --repo_id tester/trained")
    online.failures.clear()
    _, command = message.split("python examples/")
    assert script(*command.split()) is None
    assert {"results.json", "model.safetensors", "README.md"} <= set(online.files("tester/trained"))
