"""The stand-in Hub against the real huggingface_hub, transformers and datasets: what goes in comes back."""

import pytest
from hub_server import TOKEN, Hub, run_python
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

pytestmark = [
    pytest.mark.hub,
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),  # huggingface_hub's own
    pytest.mark.filterwarnings("ignore:It seems that you are about to commit a data file"),
]

REPO = "nt_failures/thing"


@pytest.fixture
def api(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between tries
    return HfApi(endpoint=hub.url, token=TOKEN)


def push(api, files, message="push"):
    additions = [CommitOperationAdd(name, data) for name, data in files.items()]
    return api.create_commit(REPO, additions, commit_message=message, repo_type="dataset")


FILES = {"README.md": b"---\nlicense: mit\n---\nhello", "a/data.parquet": b"p" * 3000, "a/b/notes.txt": b"n" * 10}


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_files_come_back(hub, api, tmp_path, kind):
    """Catches: a path, a commit id or an ETag with which the client cannot go on; LFS files that stay pointers."""
    api.create_repo(REPO, repo_type=kind, space_sdk="static" if kind == "space" else None)
    additions = [CommitOperationAdd(name, data) for name, data in FILES.items()]
    commit = api.create_commit(REPO, additions, commit_message="all", repo_type=kind)
    assert api.repo_info(REPO, repo_type=kind).sha == commit.oid
    assert len(commit.oid) == 40
    assert sorted(api.list_repo_files(REPO, repo_type=kind)) == sorted([".gitattributes", *FILES])
    for name, data in FILES.items():
        path = api.hf_hub_download(REPO, name, repo_type=kind, cache_dir=tmp_path)
        assert commit.oid in path
        with open(path, "rb") as file:
            assert file.read() == data
    top = {entry.path for entry in api.list_repo_tree(REPO, repo_type=kind)}
    assert top == {".gitattributes", "README.md", "a"}
    [info] = api.get_paths_info(REPO, ["a/data.parquet", "none"], repo_type=kind)
    assert info.lfs.size == 3000


def test_unchanged_files_make_no_commit(hub, api):
    """Catches: `oid` missing or of the wrong kind, so that every push makes a commit and uploads all again."""
    api.create_repo(REPO, repo_type="dataset")
    first = push(api, FILES)
    assert push(api, FILES).oid == first.oid
    assert push(api, FILES | {"a/data.parquet": b"q" * 3000}).oid != first.oid
    api.create_commit(REPO, [CommitOperationDelete("a/b/")], commit_message="delete", repo_type="dataset")
    assert hub.commits(f"datasets/{REPO}") == ["initial commit", "push", "push", "delete"]
    assert sorted(hub.files(f"datasets/{REPO}")) == [".gitattributes", "README.md", "a/data.parquet"]
    assert sum(method == "PUT" for method, _ in hub.requests) == 2


def test_old_commits_stay(api):
    """Catches: a revision that gives the newest files."""
    api.create_repo(REPO, repo_type="dataset")
    first = push(api, FILES)
    push(api, {"new.txt": b"new"})
    assert "new.txt" not in api.list_repo_files(REPO, repo_type="dataset", revision=first.oid)
    assert "new.txt" in api.list_repo_files(REPO, repo_type="dataset", revision="main")


def test_refusals(hub, api):
    """Catches: a stand-in that lets everybody write, so that tests of the bad cases pass on anything."""
    with pytest.raises(HfHubHTTPError) as no_token:
        HfApi(endpoint=hub.url, token=False).create_repo(REPO)
    with pytest.raises(HfHubHTTPError) as wrong_token:
        HfApi(endpoint=hub.url, token="hf_" + "wrong" * 6).create_repo(REPO)
    with pytest.raises(HfHubHTTPError) as not_mine:
        api.create_repo("somebody/thing")
    api.create_repo(REPO, repo_type="dataset", private=True)
    with pytest.raises(HfHubHTTPError) as exists:
        api.create_repo(REPO, repo_type="dataset")
    raised = [no_token, wrong_token, not_mine, exists]
    assert [error.value.response.status_code for error in raised] == [401, 401, 403, 409]
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=False).repo_info(REPO, repo_type="dataset")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(REPO, "none", repo_type="dataset")
    with pytest.raises(ValueError, match="size_categories"):
        push(api, {"README.md": b"---\nsize_categories: [many]\n---\n"})
    assert api.whoami()["name"] == "tester"


def test_failures_on_demand(hub, api):
    """Catches: a failure that does not happen, one that happens twice, and half of a commit that shows."""
    api.create_repo(REPO, repo_type="dataset")
    hub.fail_next("POST", "/commit/", 500)
    with pytest.raises(HfHubHTTPError):
        push(api, FILES)
    hub.fail_next("PUT", "/lfs/", "drop", times=6)  # the client tries 6 times
    with pytest.raises(RuntimeError, match=r"Error while uploading 'other\.parquet'"):
        push(api, {"other.parquet": b"o" * 300_000})
    assert hub.commits(f"datasets/{REPO}") == ["initial commit"]
    push(api, FILES | {"other.parquet": b"o" * 300_000})
    assert len(hub.files(f"datasets/{REPO}")["other.parquet"]) == 300_000
    hub.fail_next("PUT", "/lfs/", "drop")  # once is nothing: it tries again
    push(api, {"third.parquet": b"t" * 300_000})
    assert len(hub.files(f"datasets/{REPO}")["third.parquet"]) == 300_000


ROUND_TRIP = """
import sys
import datasets, torch, transformers
torch.manual_seed(0)
config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8)
model = transformers.GPT2LMHeadModel(config)
model.push_to_hub("nt_failures/tiny")
again = transformers.AutoModelForCausalLM.from_pretrained("nt_failures/tiny")
assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))

for name, rows in (("small", 3), ("large", 5)):
    made = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": [[i, i] for i in range(rows)]})})
    made.push_to_hub("nt_failures/rows", name)
assert sorted(datasets.get_dataset_config_names("nt_failures/rows")) == ["large", "small"]
assert datasets.load_dataset("nt_failures/rows", "large", split="train")["x"][4] == [4, 4]
small = datasets.load_dataset("nt_failures/rows", "small", split="train", streaming=True)
assert [row["x"][0] for row in small] == [0, 1, 2]
assert "nt_failures" not in sys.modules
print("all", "came", "back")
"""


def test_models_and_datasets_round_trip(hub, tmp_path):
    """Catches: a call of transformers or datasets that the stand-in does not know."""
    done = run_python(ROUND_TRIP, hub, tmp_path)
    assert done.stdout == "all came back\n", done.stderr
    assert "model.safetensors" in hub.files("nt_failures/tiny")
    assert "large/train-00000-of-00001.parquet" in hub.files("datasets/nt_failures/rows")
    assert TOKEN not in done.stdout + done.stderr


def test_hubs_are_apart(hub):
    """Catches: repos kept in the class."""
    hub.create("nt_failures/thing")
    with Hub() as other:
        assert other.repos == {}
