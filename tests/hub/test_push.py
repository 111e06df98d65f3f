"""Pushing over HTTP to a stand-in Hub: what arrives, what never leaves, and what a failed push says and leaves."""

import json
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub_server import TOKEN
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer

import nt_failures
from nt_failures.hub.push import explained, make_repo, push_run, upload
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.objectives import NextToken
from nt_failures.tasks.path_star import PathStar
from nt_failures.training import publishing
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

pytestmark = pytest.mark.hub

ARRIVES = {
    *(".gitattributes", "README.md", "arguments.json", "config.json", "forced_vs_free.png", "generation_config.json"),
    *("graph.png", "learning.png", "model.safetensors", "nt_failures.json", "recipe.yaml", "results.json"),
    *("tokenizer.json", "tokenizer_config.json"),
}
REPO = "tester/path-star"
PLANTED = "hf_" + "planted" * 5
HERE = 'name = "."  # this folder'


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of the test's own, with what a training may leave in its folder beside the model."""
    folder = tmp_path / "run"
    shutil.copytree(finished(), folder)
    for name in ("checkpoint-2/optimizer.pt", "checkpoint-2/model.safetensors", "runs/events.out", "training_args.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"local")
    return folder


@pytest.fixture
def trainer(tiny_model, tokenized, tokenizer, task, tmp_path):
    """`trainer(**arguments)`: a Trainer used as a library, in `tmp_path/library`."""

    def make(**options):
        defaults = {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True}
        args = ObjectiveTrainingArguments(str(tmp_path / "library"), **(defaults | {"report_to": []} | options))
        return ObjectiveTrainer(
            tiny_model("gpt2", spread=0.5),
            args,
            objective=NextToken(pad_token_id=tokenizer.pad_token_id),
            task=task,
            train_dataset=tokenized,
            eval_dataset=tokenized,
            processing_class=tokenizer,
        )

    return make


def test_a_finished_run_arrives_and_nothing_else(online, run):
    """Catches: pickles, optimizer states or logs that are pushed; files of the model that are not."""
    push_run(run, REPO)
    assert set(online.files(REPO)) == ARRIVES
    page = online.files(REPO)["README.md"].decode()
    assert f'name = "{REPO}"' in page
    assert ModelCard(page).data.eval_results


def test_a_second_push_changes_nothing(online, run):
    """Catches: a commit for every push, or a card that loses what its author wrote into it."""
    push_run(run, REPO)
    before = online.commits(REPO)
    push_run(run, REPO)
    assert online.commits(REPO) == before
    with (run / "README.md").open("a") as page:
        page.write("\nWritten by hand.\n")
    push_run(run, REPO)
    assert online.files(REPO)["README.md"].endswith(b"Written by hand.\n")


def test_a_missing_card_is_made_from_the_folder(online, run):
    """Catches: a run from before there were cards that cannot be pushed, or goes without its results."""
    (run / "README.md").unlink()
    results = json.loads((run / "results.json").read_text())
    results["hardware"]["machine"] = "elsewhere"
    (run / "results.json").write_text(json.dumps(results))
    push_run(run, REPO)
    assert "elsewhere" in (run / "README.md").read_text()
    page = ModelCard(online.files(REPO)["README.md"].decode())
    shares = {r.metric_name: r.metric_value for r in page.data.eval_results if r.dataset_split == "test"}
    assert shares["free/exact"] == results["metrics"]["free/exact"]
    assert "# path-star\n" in page.text


def test_each_repository_is_named_on_its_own_card(online, run):
    """Catches: a card that loads the model of another repository; a local card that downloads what lies beside it."""
    local = (run / "README.md").read_text()
    for repo in (REPO, "tester/second"):
        push_run(run, repo)
        assert online.files(repo)["README.md"].decode() == local.replace(HERE, f'name = "{repo}"')
    assert (run / "README.md").read_text() == local
    (run / "README.md").write_bytes(online.files(REPO)["README.md"])  # a run that was downloaded
    push_run(run, "tester/third")
    assert f'name = "{REPO}"' not in online.files("tester/third")["README.md"].decode()


@pytest.mark.parametrize("results", [None, "{}"])
def test_a_run_without_results_says_nothing_of_them(online, run, results, caplog):
    """Catches: the pushing machine's hardware and versions as the training's; silence about a missing verdict."""
    (run / "README.md").unlink()
    (run / "results.json").unlink()
    if results is not None:
        (run / "results.json").write_text(results)
    push_run(run, REPO)
    page = online.files(REPO)["README.md"].decode()
    for word in ("hardware", "versions", "commit", "Training", "Verdict"):
        assert word not in page
    assert "has no verdict in results.json" in caplog.text
    assert "finished" not in online.commits(REPO)[-1]


DAMAGED = {
    "empty weights": ("model.safetensors", "", "is cut off or damaged"),
    "half the weights": ("model.safetensors", None, "is cut off or damaged"),
    "half a config": ("config.json", None, "is not JSON"),
    "half a description": ("nt_failures.json", None, "is not JSON"),
    "a description of nothing": ("nt_failures.json", "{}", "names no objective"),
    "half a tokenizer": ("tokenizer.json", None, "is not JSON"),
    "half of the results": ("results.json", None, "is not JSON"),
    "results that are no object": ("results.json", "NaN", "is no JSON object"),
    "a share that is no number": (
        "results.json",
        '{"metrics": {"free/exact": NaN}}',
        "has no number at metrics.free/exact",
    ),
    "half of other modules": ("objective_modules.safetensors", "junk", "is cut off or damaged"),
    "an index of nothing": ("model.safetensors.index.json", "{}", "names no weights"),
    "an index of numbers": ("model.safetensors.index.json", '{"weight_map": {"a": 5}}', "names no weights"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_run_is_not_pushed(online, run, case):
    """Catches: half-written files on the Hub, and a success reported for them."""
    name, content, fault = DAMAGED[case]
    file = run / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content.encode())
    with pytest.raises(ValueError, match=f"holds no whole run: {name} {fault}"):
        push_run(run, REPO)
    assert online.requests == []


def test_whole_files_of_another_model_are_not_pushed(online, run):
    """Catches: one flipped bit, or another run's weights, published beside figures that they do not give: on the Hub
    nobody compares the sums."""
    weights = bytearray((run / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (run / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"model\.safetensors: not as saved with nt_failures\.json"):
        push_run(run, REPO)
    assert online.requests == []


@pytest.mark.parametrize(("status", "said"), [(401, "hf auth login"), (403, "may not write to 'tester/path-star'")])
def test_an_upload_that_xet_refuses_says_what_to_do(status, said, tmp_path):
    """Catches: no advice and no next command for weights, whose upload raises the builtin ConnectionError."""
    message = (
        f"Network error: Request error: HTTP status client error ({status} X), domain: https://hub/xet-write-token"
    )
    with pytest.raises(OSError, match=f"{said}.*push it with: python examples/push.py"), explained(REPO, tmp_path):
        raise ConnectionError(message)


def test_shards_are_looked_into(online, run):
    """Catches: a check of the one-file form only; an index that names a shard which is not there."""
    AutoModelForCausalLM.from_pretrained(run).save_pretrained(run, max_shard_size="8KB")
    (run / "model.safetensors").unlink()
    last = sorted(run.glob("model-*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{last.name} is cut off or damaged"):
        push_run(run, REPO)
    last.unlink()
    with pytest.raises(ValueError, match=f"{last.name} missing"):
        push_run(run, REPO)


def test_a_diverged_run_is_a_run(online, run):
    """Catches: a loss that is NaN taken for a damaged file."""
    results = json.loads((run / "results.json").read_text())
    results["metrics"]["loss"] = float("nan")
    (run / "results.json").write_text(json.dumps(results))
    push_run(run, REPO)
    assert "results.json" in online.files(REPO)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "nt_failures.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_half_a_run_is_not_pushed(online, run, name):
    """Catches: a repository with a model that nobody can load."""
    (run / name).unlink()
    with pytest.raises(ValueError, match=f"holds no whole run: {name} missing; finish it"):
        push_run(run, REPO)
    assert online.requests == []
    with pytest.raises(ValueError, match="is no folder"):
        push_run(run / "nowhere", REPO)


def content(folder):
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


REFUSALS = {
    "no token": "log in with `hf auth login`, or set HF_TOKEN",
    "not mine": "403, the token may not write to 'somebody/model'; take a token with write access",
    "no network": "is out of reach .*look at the network",
    "offline": "HF_HUB_OFFLINE is set; unset it",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_push_says_what_to_do_and_loses_nothing(online, run, monkeypatch, case):
    """Catches: a bare HTTP error, a push that leaves the folder changed, a message without the next command."""
    repo = REPO
    if case == "no token":
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run / "none"))
    elif case == "not mine":
        repo = "somebody/model"
    elif case == "no network":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = content(run)
    with pytest.raises(OSError, match=REFUSALS[case]) as refused:
        push_run(run, repo)
    again = "YOUR_NAME/model" if case == "not mine" else repo
    assert f"the run is whole in {run}; push it with: python examples/push.py {run} --repo_id {again}" in str(
        refused.value
    )
    assert TOKEN not in str(refused.value)
    assert content(run) == before


@pytest.mark.parametrize("where", [("PUT", "/lfs/", "drop"), ("POST", "/commit/", 500), ("POST", "/preupload/", 503)])
def test_a_push_that_breaks_off_is_finished_by_the_next(online, run, where):
    """Catches: half a model that shows on the Hub, and a second push that does not complete the first."""
    online.fail_next(*where, times=100)
    with pytest.raises(OSError, match=r"cannot push to 'tester/path-star': .*examples/push\.py"):
        push_run(run, REPO)
    assert set(online.files(REPO)) == {".gitattributes"}
    online.failures.clear()
    push_run(run, REPO)
    assert set(online.files(REPO)) == ARRIVES


def test_weights_of_an_earlier_push_do_not_stay_beside_others(online, run):
    """Catches: the adapter of an earlier push, which every loader prefers, in charge of what shows a whole model."""
    push_run(run, REPO)
    stays = {"notes.md", "mine.safetensors", "onnx/model.safetensors"}
    gone = {"adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors"}
    gone |= {"special_tokens_map.json", "chat_template.jinja"}
    for name in gone | stays:
        HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=REPO)
    push_run(run, REPO)
    assert set(online.files(REPO)) == ARRIVES | stays


def test_a_tokenizer_of_an_earlier_push_does_not_stay_beside_another(online, run):
    """Catches: tokens that an earlier tokenizer had added, which every loader would add to the new one's."""
    prompt = "0,1|1,2/0,2="
    expected = nt_failures.load(str(run)).tokenizer(prompt)["input_ids"]
    online.create(REPO)
    HfApi().upload_file(path_or_fileobj=b'{"0,1": 0}', path_in_repo="added_tokens.json", repo_id=REPO)
    push_run(run, REPO)
    assert nt_failures.load(REPO).tokenizer(prompt)["input_ids"] == expected
    assert AutoTokenizer.from_pretrained(REPO)(prompt)["input_ids"] == expected


def test_results_of_another_model_are_not_pushed(online, trainer, run, tmp_path, caplog):
    """Catches: verdict, figures and recipe of an earlier run as those of the model saved over it."""
    run.rename(tmp_path / "library")
    push_run(tmp_path / "library", REPO)
    used = trainer()
    used.save_model()
    with pytest.raises(
        ValueError, match=r"another model than .* results\.json is about; remove results\.json, .*README"
    ):
        push_run(tmp_path / "library", REPO)
    used.hub_model_id = REPO
    used.push_to_hub()
    reports = {"results.json", "recipe.yaml", "arguments.json", *(name for name in ARRIVES if name.endswith(".png"))}
    assert set(online.files(REPO)) == ARRIVES - reports
    page = ModelCard(online.files(REPO)["README.md"].decode())
    assert page.data.eval_results is None
    assert "Verdict" not in page.text


def test_a_checkpoint_is_not_pushed_beside_earlier_figures(online, trainer, run):
    """Catches: the card and results of an earlier run above weights that are still in training."""
    push_run(run, REPO)
    used = trainer(push_to_hub=True, hub_model_id=REPO, save_strategy="steps", save_steps=2, hub_always_push=True)
    used.train()
    used._finish_current_push()
    assert not {"results.json", "recipe.yaml", "README.md", "graph.png"} & set(online.files(REPO))


def test_a_page_by_hand_stays_beside_a_checkpoint(online, trainer):
    """Catches: a README.md that somebody wrote for the repository, deleted by the first step that is saved."""
    online.create(REPO)
    HfApi().upload_file(path_or_fileobj=b"# Mine\n", path_in_repo="README.md", repo_id=REPO)
    used = trainer(push_to_hub=True, hub_model_id=REPO, save_strategy="steps", save_steps=2, hub_always_push=True)
    used.train()
    used._finish_current_push()
    assert "model.safetensors" in online.files(REPO)
    assert online.files(REPO)["README.md"] == b"# Mine\n"


def test_offline_nothing_is_taken_for_granted(online, run, monkeypatch):
    """Catches: a reversed model that a pipeline has cached, loaded offline as forward next-token in silence."""
    push_run(run, REPO)
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        hf_hub_download(REPO, file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        OSError, match=r"whether it holds nt_failures\.json cannot be told, .*: hf download tester/path-star"
    ):
        nt_failures.load(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert nt_failures.load(REPO).described
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert nt_failures.load(REPO).described


def test_a_whole_download_says_what_is_missing(online, run, monkeypatch):
    """Catches: a stock model that was downloaded for a cluster without network, and cannot be loaded there."""
    (run / RUN_FILE).rename(run / "other.json")
    api = HfApi()
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=run, ignore_patterns=["checkpoint*", "runs/*", "*.bin"])
    snapshot_download(REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not nt_failures.load(REPO).described


def test_a_token_reaches_every_file(online, run, monkeypatch):
    """Catches: a private repository whose weights come with the token given, and other files without."""
    push_run(run, REPO, private=True)
    monkeypatch.delenv("HF_TOKEN")
    assert nt_failures.load(REPO, token=TOKEN).described


def test_no_path_and_no_token_is_written_or_pushed(online, trainer, tmp_path, monkeypatch):
    """Catches: a token in a pickle of the arguments, in the card or in a config; an absolute path of this machine."""
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    used = trainer(hub_token=TOKEN, push_to_hub=True, hub_model_id=REPO, save_strategy="steps", save_steps=1)
    used.train()
    used.evaluate()
    used.push_to_hub()
    files = online.files(REPO)
    for name, data in [*files.items(), *content(tmp_path).items()]:
        for secret in (TOKEN, PLANTED):
            assert secret.encode() not in data, name
    for name, data in files.items():
        assert str(tmp_path).encode() not in data, name
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".pth")) for name in files)
    assert "training_args.bin" not in " ".join(content(tmp_path))


def test_the_trainer_used_as_a_library(online, trainer, tmp_path):
    """Catches: a crash without results.json; a number on the card not measured; transformers' arguments ignored."""
    used = trainer(eval_strategy="steps", eval_steps=1)
    used.train()
    metrics = used.evaluate()
    done = used.push_to_hub(
        commit_message="mine", token=TOKEN, language="en", tags="extra", model_name="A name", private=True
    )
    assert done.oid == next(reversed(online.repos["tester/library"].history))
    assert online.repos["tester/library"].private
    assert online.commits("tester/library")[-1] == "mine"
    page = ModelCard(online.files("tester/library")["README.md"].decode())
    assert (page.data.language, page.data.model_name) == ("en", "A name")
    assert "extra" in page.data.tags
    shares = {r.metric_name: r for r in page.data.eval_results}
    assert shares["free/exact"].metric_value == metrics["eval_free/exact"]
    assert shares["free/exact"].metric_args["n"] == 32
    assert shares["free/exact"].dataset_split is None
    assert "Verdict" not in page.text
    assert "# A name" in page.text
    assert "max_new_tokens=3" in page.text
    assert "2 steps, 8 examples" in page.text
    assert "learning.png" in online.files("tester/library")


def test_a_card_before_any_training(trainer, tmp_path):
    """Catches: a crash without log history, or zero steps shown as a budget; results of another run taken over."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "results.json").write_text(
        json.dumps({"steps": 7, "parameters": 1, "metrics": {"free/exact": 1.0}})
    )
    trainer().create_model_card()
    page = ModelCard.load(tmp_path / "library" / "README.md")
    assert page.data.eval_results is None
    assert "budget" not in page.text
    assert "Accuracy" not in page.text


def test_figures_are_of_the_model_and_rows_that_the_card_is_about(trainer, tokenized):
    """Catches: the last evaluation as that of the best model; its shares beside the n of another evaluation."""
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    used = trainer(**best, **steps, learning_rate=1e-2)
    used.train()
    first, last = (entry["eval_loss"] for entry in used.state.log_history if "eval_loss" in entry)
    assert first > last
    assert used._known_results().metrics["loss"] == first
    used = trainer()
    used.task = None
    exact = used.evaluate()["eval_free/exact"]
    used.evaluate(tokenized.select(range(4)))
    known = used._known_results()
    assert known.metrics["free/exact"] == exact
    assert known.n is None
    used.evaluate()
    assert used._known_results().n == 32
    used.evaluate(tokenized.select(range(4)), metric_key_prefix="test")
    assert used._known_results().n == 4


def test_no_training_starts_without_a_repository(online, trainer):
    """Catches: hours of training before the first word about a missing permission."""
    with pytest.raises(OSError, match=r"403, the token may not write to 'somebody/x'.*; nothing was started"):
        trainer(push_to_hub=True, hub_model_id="somebody/x")


def test_a_library_model_from_a_folder_says_so(trainer, finished, tmp_path):
    """Catches: a model continued from a folder whose card shows it as trained from scratch."""
    used = trainer()
    used.model.config._name_or_path = used.model.name_or_path = str(finished())
    used.create_model_card()
    assert "continued from a local model that is not published" in (tmp_path / "library" / "README.md").read_text()


def test_a_push_to_a_branch(online, trainer):
    """Catches: a 404 at the end of a training for a branch that nobody had made."""
    used = trainer(push_to_hub=True, hub_model_id=REPO, hub_revision="dev")
    used.train()
    used.push_to_hub()
    assert "model.safetensors" in online.repos[REPO].at("dev")[1]
    assert set(online.files(REPO)) == {".gitattributes"}


def test_a_push_names_its_own_branch(online, trainer):
    """Catches: a second branch, that of the arguments, made beside the one that was asked for."""
    used = trainer(hub_model_id=REPO, hub_revision="dev")
    used.train()
    used.push_to_hub(revision="other")
    assert set(online.repos[REPO].heads) == {"main", "other"}


def test_a_push_that_fails_at_the_end_leaves_the_run(online, trainer, tmp_path):
    """Catches: an end without weights or card on disk because the network was gone."""
    used = trainer(push_to_hub=True, hub_model_id=REPO)
    used.train()
    online.fail_next("POST", "/commit/", 503, times=20)
    with pytest.raises(OSError, match=r"the run is whole in .*library; push it with: python examples/push\.py"):
        used.push_to_hub()
    online.failures.clear()
    push_run(tmp_path / "library", REPO)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "library")
    assert torch.equal(loaded.lm_head.weight, used.model.lm_head.weight)
    assert "model.safetensors" in online.files(REPO)


def test_weights_are_pushed_during_training_and_failures_do_not_stop_it(online, trainer, caplog):
    """Catches: optimizer states pushed with checkpoints; an end or silence as the network goes."""
    online.fail_next("POST", "/commit/", 500, times=1)
    used = trainer(push_to_hub=True, hub_model_id=REPO, save_strategy="steps", save_steps=1, hub_always_push=True)
    used.train()
    used._finish_current_push()
    assert "a push during training failed, training goes on" in caplog.text
    assert "Training in progress, step 2" in online.commits(REPO)
    assert {"model.safetensors", "nt_failures.json", "tokenizer.json"} <= set(online.files(REPO))
    assert "sha256" in json.loads(online.files(REPO)["nt_failures.json"])  # which the checkpoint itself has not
    assert not any(name.endswith((".pt", ".bin", ".pth")) or "state" in name for name in online.files(REPO))


@pytest.mark.parametrize(
    ("options", "under_way", "pushed"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"hub_always_push": True}, True, True),
        ({"hub_strategy": "end"}, False, 0),
    ],
    ids=["every save", "another is under way", "always", "at the end"],
)
def test_which_checkpoints_are_pushed(options, under_way, pushed, online, trainer, tmp_path, monkeypatch):
    """Catches: a queue of checkpoints behind a slow network; one pushed of a run that asked for its end alone."""
    sent, done = [], Future()
    done.set_result(None)
    used = trainer(push_to_hub=True, hub_model_id=REPO, **options)
    used.save_model(str(tmp_path / "checkpoint-1"), _internal_call=True)
    monkeypatch.setattr(publishing, "upload", lambda *_, **__: sent.append(1) or done)
    used.push_in_progress = SimpleNamespace(is_done=lambda: not under_way, jobs=[done])
    used._push_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert len(sent) == pushed


def test_the_end_waits_for_checkpoints_under_way(online, trainer, monkeypatch):
    """Catches: a checkpoint that arrives behind the finished run, and replaces its weights."""
    order = []
    monkeypatch.setattr(publishing, "wait_for_pushes", lambda trainer: order.append("wait"))
    monkeypatch.setattr(publishing, "upload", lambda *_, **__: order.append("upload"))
    trainer(push_to_hub=True, hub_model_id=REPO).push_to_hub()
    assert order == ["wait", "upload"]


def test_pushes_in_the_background_keep_their_order(online, run, monkeypatch):
    """Catches: two checkpoints pushed at once, of which the older may come last."""
    make_repo(REPO, None, None, None)
    threads = []
    monkeypatch.setattr(HfApi, "create_commit", lambda *_, **__: threads.append(threading.get_ident()))
    for job in [upload(run, REPO, "", None, None, run_as_future=True) for _ in range(2)]:
        job.result()
    first, second = threads
    assert first == second != threading.get_ident()


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_optimizer_states_are_never_published(strategy, tmp_path):
    """Catches: pickles of the optimizer on the Hub."""
    with pytest.raises(ValueError, match=f"hub_strategy='{strategy}' would publish optimizer states.*give every_save"):
        ObjectiveTrainingArguments(str(tmp_path), hub_strategy=strategy)


def test_what_was_pushed_comes_back(online, run):
    """Catches: weights, objective, task or revision that do not survive the Hub."""
    push_run(run, REPO)
    first = next(reversed(online.repos[REPO].history))
    reversed_order = {"objective": {"objective": "next_token", "order": "reversed", "pad_token_id": 14}}
    (run / "nt_failures.json").write_text(json.dumps(reversed_order))
    push_run(run, REPO)
    new, old = nt_failures.load(REPO), nt_failures.load(REPO, revision=first)
    assert (new.objective, new.task) == (NextToken(order="reversed", pad_token_id=14), None)
    assert (old.objective.order, old.task) == ("forward", PathStar(2, 4, 10))
    on_disk = nt_failures.load(str(run)).model
    assert torch.equal(new.model.lm_head.weight, on_disk.lm_head.weight)


def test_a_repository_that_cannot_be_read_is_named(online, monkeypatch):
    """Catches: a missing or closed repository, or a missing revision, that ends in an error which names nothing."""
    online.create("tester/locked", private=True)
    monkeypatch.delenv("HF_TOKEN")
    for repo in ("tester/nowhere", "tester/locked"):
        with pytest.raises(OSError, match=repo):
            nt_failures.load(repo)


def test_pickled_weights_are_refused(finished, tmp_path):
    """Catches: code of a stranger that runs because weights came as a pickle."""
    shutil.copytree(finished(), tmp_path / "pickled")
    model = AutoModelForCausalLM.from_pretrained(finished())
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no safetensors weights, and pickled ones are not read; .*save_pretrained"):
        nt_failures.load(str(tmp_path / "pickled"))
