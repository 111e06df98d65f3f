"""dataset_scripts/publish_pathstar.py: what goes to the Hub is what the builder draws, and nothing is lost."""

import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import matplotlib
import pyarrow.parquet as pq
import pytest
from hub_server import TOKEN, run_python
from huggingface_hub import DatasetCard

from nt_failures.data.builder import PathStarBuilder

SCRIPTS = Path(__file__).parents[2] / "dataset_scripts"
sys.path.insert(0, str(SCRIPTS))
import dataset_folder  # noqa: E402
import publish_pathstar  # noqa: E402

REPO = "datasets/nt_failures/pathstar"
DEFAULT = "deg2-path5-nodes50"
SMALL = ["--configs", DEFAULT, "deg2-path3-nodes10", "--num_train", "40", "--num_test", "10"]

pytestmark = [
    pytest.mark.hub,
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),  # huggingface_hub's own
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def publish(online, cache, tmp_path, monkeypatch, capsys):
    """`publish(*args)`: run the script against the stand-in; its output, with the message of a failure at the end."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def call(*args, to=tmp_path / "out", base=SMALL):
        message = ""
        try:
            publish_pathstar.run([*base, "--output_dir", str(to), *args])
        except SystemExit as end:  # its code is the message
            message = str(end.code)
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err + message
        return printed.out + message

    return call


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LOAD_ALL = """
import sys
from pathlib import Path
import datasets
for name in datasets.get_dataset_config_names("nt_failures/pathstar"):
    datasets.load_dataset("nt_failures/pathstar", name).save_to_disk(Path(sys.argv[1]) / name)
datasets.load_dataset("nt_failures/pathstar").save_to_disk(Path(sys.argv[1]) / "default")
for name, given in {"nt_failures/pathstar": {"degree": 3}, "nt_failures/none": {}}.items():
    try:
        datasets.load_dataset(name, **given)
    except Exception as error:
        print("said:", error)
assert "nt_failures" not in sys.modules
"""


def test_every_config_is_the_builders_without_the_package(hub, tmp_path):
    """Catches: a config left out; rows, order, types or splits that differ from the builder's; shards in another order
    (10 and more of them); another default config; a token written to a file; a card that does not know what a forgotten
    import looks like."""
    rows = {"num_train": 300, "num_validation": 7, "num_test": 30}
    options = [word for name, count in rows.items() for word in (f"--{name}", count)]
    out, read = tmp_path / "out", tmp_path / "read"
    command = [SCRIPTS / "publish_pathstar.py", *options, "--max_shard_size", "36KB", "--output_dir", out]
    done = run_python(command, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert f"pushed to {hub.url}/{REPO} (commit " in done.stdout
    assert hub.files(REPO).keys() - {".gitattributes"} == contents(out).keys() - {".published.json"}
    assert "deg20-path5-nodes100/train-00012-of-00013.parquet" in hub.files(REPO)
    everything = [done.stdout.encode(), done.stderr.encode(), *hub.files(REPO).values(), *contents(out).values()]
    assert not any(TOKEN.encode() in data for data in everything)

    loaded = run_python(["-c", LOAD_ALL, read], hub, tmp_path / "reader")
    assert loaded.returncode == 0, loaded.stderr
    said = [line for line in loaded.stdout.splitlines() if line.startswith("said: ")]
    card = (out / "README.md").read_text(encoding="utf-8")
    texts = ("doesn't have a 'degree' key", "doesn't exist on the Hub or cannot be accessed")
    for line, text in zip(said, texts, strict=True):
        assert text in line
        assert text in card
    names = [*PathStarBuilder.builder_configs, "default"]
    assert sorted(path.name for path in read.iterdir()) == sorted(names)
    for name in names:
        known = {} if name == "default" else {"config_name": name}
        builder = PathStarBuilder(str(tmp_path / "home" / "datasets"), **known, **rows)
        builder.download_and_prepare()
        own, published = builder.as_dataset(), datasets.load_from_disk(read / name)
        assert list(published) == list(own) == ["train", "validation", "test"]
        for split in own:
            assert published[split].features == own[split].features
            assert published[split].data.table.equals(own[split].data.table)


def test_every_build_gives_the_same_bytes(publish, tmp_path, monkeypatch):
    """Catches: a time, a path or an order of files in Parquet, card or figure; `--dry_run` that pushes."""
    publish("--dry_run")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "other-cache")
    told = publish("--dry_run", to=tmp_path / "again")
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
    assert "nothing pushed (--dry_run)" in told


def test_a_second_push_changes_nothing(hub, publish):
    """Catches: a commit, an upload or a new build for what is there already."""
    publish()
    hub.requests.clear()
    told = publish()
    assert "is complete from an earlier run" in told
    assert "has all of this already: nothing pushed" in told
    assert len(hub.commits(REPO)) == 2
    assert not [path for method, path in hub.requests if method == "PUT" or "/commit/" in path]


def test_another_task_has_a_repo_of_its_own(hub, publish):
    """Catches: sums pushed over the graphs, or a commit that no reader finds whole."""
    assert "nt_failures/addition (commit " in publish("--task", "addition", base=SMALL[3:])
    assert [*hub.repos] == ["datasets/nt_failures/addition"]
    files = hub.files("datasets/nt_failures/addition")
    assert {"README.md", "digits2/test-00000-of-00001.parquet", "digits8/train-00000-of-00001.parquet"} <= {*files}
    assert "has all of this already" in publish("--task", "addition", base=SMALL[3:])


def test_fewer_shards_leave_no_old_ones(hub, publish):
    """Catches: `train-*` that finds shards of an earlier push, too, so that rows are there twice."""
    publish("--max_shard_size", "2KB")
    assert f"{DEFAULT}/train-00000-of-00005.parquet" in hub.files(REPO)  # 40 rows of about 203 bytes
    publish()
    found = sorted(name for name in hub.files(REPO) if name.startswith(f"{DEFAULT}/"))
    assert found == [f"{DEFAULT}/test-00000-of-00001.parquet", f"{DEFAULT}/train-00000-of-00001.parquet"]


def test_card(hub, publish, tmp_path):
    """Catches: metadata that the Hub or `datasets` refuses, sizes that are not the files', a figure or sample of
    another row, a command that makes something else."""
    publish("--num_validation", "5")
    text = hub.files(REPO)["README.md"].decode()
    card = DatasetCard(text)
    card.validate(repo_type="dataset")
    data = card.data.to_dict()
    assert (data["license"], data["size_categories"]) == ("apache-2.0", ["n<1K"])
    assert [config["config_name"] for config in data["configs"] if config.get("default")] == [DEFAULT]
    info = {entry["config_name"]: entry for entry in data["dataset_info"]}[DEFAULT]
    assert {s["name"]: s["num_examples"] for s in info["splits"]} == {"train": 40, "validation": 5, "test": 10}
    parquet = {name: file for name, file in hub.files(REPO).items() if name.startswith(f"{DEFAULT}/")}
    assert info["download_size"] == sum(map(len, parquet.values()))
    row = pq.read_table(tmp_path / "out" / DEFAULT / "train-00000-of-00001.parquet").to_pylist()[0]
    assert json.dumps(row) in text
    assert hub.files(REPO)["graph.png"].startswith(b"\x89PNG")
    assert "](graph.png)" in text
    assert f"| `{DEFAULT}` (default) | 2 | 5 | 50 | 40 | 5 | 10 |" in text
    assert PathStarBuilder.source_hash() in text
    words = shlex.split(re.search(r"```bash\n(.*)\n```", text)[1])
    assert words[:2] == ["python", "dataset_scripts/publish_pathstar.py"]
    publish("--dry_run", to=tmp_path / "again", base=words[2:])
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def card_of(publish, folder, *args, configs):
    """The card of a small publication, lines joined."""
    publish("--dry_run", "--configs", *configs, *args, to=folder, base=[])
    return " ".join((folder / "README.md").read_text(encoding="utf-8").split())


def test_card_of_configs_without_a_plan(publish, tmp_path):
    """Catches: a guess, and its chance, where the answer is a copy from the prompt."""
    rows = ("--num_train", "40", "--num_test", "10")
    copied = card_of(publish, tmp_path / "copied", *rows, configs=["deg2-path2-nodes50"])
    assert "On `deg2-path2-nodes50` there is nothing to plan" in copied
    assert "stays a guess" not in copied
    assert "| `deg2-path2-nodes50` (default) | 2 | 2 | 50 | 40 | 10 |" in copied
    assert not re.search(r"\d%", copied)
    assert "In `deg2-path2-nodes50` an arm has two nodes, and there is nothing to plan" in copied
    both = card_of(publish, tmp_path / "both", *rows, configs=["deg2-path2-nodes50", DEFAULT])
    assert f"the first step stays a guess (right in 1 of 2 cases on `{DEFAULT}`)" in both
    assert "In `deg2-path2-nodes50` an arm has two nodes" in both
    assert [line.count("50% |") for line in re.findall(r"\| `deg2-path[25]-nodes50`.*?B \| \S+ \|", both)] == [0, 1]


def test_card_of_graphs_of_several_sizes(publish, tmp_path):
    """Catches: a figure or a card that stumbles over a range, or over a row that is filled up; a chance of one size."""
    card = card_of(publish, tmp_path / "mixed", "--num_train", "40", "--num_test", "10", configs=["mixed"])
    assert "| `mixed` (default) | (2, 10) | (3, 8) | 100 | 40 | 10 |" in card
    assert "stays a guess (right in 21% of the cases, over all its sizes, on `mixed`)" in card
    assert "have -1 behind their end, and its path ends with ` .`." in card


def test_card_says_what_holds_for_this_publication(publish, tmp_path):
    """Catches: limits of configs that are not published, repeated rows in a split of forty, splits that are missing."""
    small = card_of(publish, tmp_path / "small", "--num_train", "40", "--num_test", "0", configs=[DEFAULT])
    assert "nodes10" not in small
    assert "deg2-path2" not in small
    assert "several times" not in small
    assert "test" not in small.split("## How it was made")[1].replace("--num_test 0", "")
    assert "only `train` is published" in small
    assert card_of(publish, tmp_path / "none", "--num_train", "0", "--num_test", "9", configs=[DEFAULT])
    # 10 x 9 x 8 x 7 x 6 graphs
    many = card_of(
        publish, tmp_path / "many", "--num_train", "30241", "--num_test", "10", configs=["deg2-path3-nodes10"]
    )
    assert "fewer different graphs to draw from than rows in `train` (`deg2-path3-nodes10` about 22,680)" in many  # 6/8
    assert "no graph is in more than one of `train` and `test`" in many


def test_card_names_what_the_bytes_depend_on(publish, tmp_path):
    """Catches: a figure drawn by another matplotlib, promised to be the same."""
    card = card_of(publish, tmp_path / "out", "--num_train", "40", configs=[DEFAULT])
    assert f"| matplotlib | `{matplotlib.__version__}` |" in card
    assert "the same rows and the same Parquet files, byte for byte" in card


def test_the_cards_code_runs(hub, publish, tmp_path):
    """Catches: an example that fails, or that gives other rows with the package than without it."""
    publish()
    without, with_package = re.findall(r"```python\n(.*?)```", hub.files(REPO)["README.md"].decode(), re.DOTALL)
    show = "print(data['test'].to_list(), flush=True)\n"
    done = run_python(without + show + with_package + show, hub, tmp_path / "home")
    from_hub, drawn = done.stdout.splitlines()
    assert from_hub == drawn
    assert from_hub.startswith("[{'edges': [[")


def test_no_token(hub, publish, tmp_path, monkeypatch):
    """Catches: minutes of building before the question for a token; a traceback."""
    monkeypatch.delenv("HF_TOKEN")
    told = publish()
    assert "the Hub knows no valid token; log in with `hf auth login`" in told
    assert not (tmp_path / "out").exists()
    assert hub.requests == []
    done = run_python([SCRIPTS / "publish_pathstar.py", *SMALL], hub, tmp_path / "home", token=None, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot push to")
    assert done.stderr.count("\n") == 1


def test_wrong_token(hub, publish, tmp_path, monkeypatch):
    """Catches: a message that shows the token, or that does not name the way out."""
    wrong = "hf_" + "wrong" * 6
    monkeypatch.setenv("HF_TOKEN", wrong)
    told = publish()
    assert "the Hub knows no valid token" in told
    assert wrong not in told
    assert wrong not in publish("--token", wrong)
    assert hub.repos == {}


@pytest.mark.parametrize("repo_id", ["somebody/pathstar", "nt_failures/pathstar"])
def test_no_permission(hub, publish, tmp_path, repo_id):
    """Catches: a 403, of a namespace or of a commit, that is a traceback or takes the built folder with it."""
    hub.fail_next("POST", "/commit/", 403)
    told = publish("--repo_id", repo_id)
    assert f"403, the token may not write to {repo_id!r}" in told
    assert "or another --repo_id" in told
    assert told.rstrip().endswith("out is kept")  # and not that the same command goes on: it would be refused again
    assert (tmp_path / "out" / "README.md").exists()
    assert all(len(repo.messages) == 1 for repo in hub.repos.values())


def test_repo_is_somebody_elses(hub, publish):
    """Catches: a card that was written by hand replaced; an empty repo that is refused."""
    hub.create(REPO).commit({"README.md": b"---\nlicense: mit\n---\nby hand"}, "card")
    told = publish()
    assert "nt_failures/pathstar exists, and its card was not written by this script; it is left alone" in told
    assert hub.files(REPO) == {"README.md": b"---\nlicense: mit\n---\nby hand"}
    hub.create(REPO)
    assert "pushed to" in publish()


def test_a_public_repo_does_not_become_private(hub, publish):
    """Catches: `--private` that is ignored, with the rows then in public."""
    hub.create(REPO)
    assert "exists and is public; leave --private out" in publish("--private")
    assert "pushed to" in publish("--private", "--repo_id", "nt_failures/new")
    assert hub.repos["datasets/nt_failures/new"].private
    assert "nothing pushed" in publish("--private", "--repo_id", "nt_failures/new")


def test_fewer_configs_do_not_push_the_others_out(hub, publish):
    """Catches: configs that vanish from the card because the second push did not name them."""
    publish()
    before = hub.files(REPO)
    told = publish("--configs", DEFAULT)
    assert "also has deg2-path3-nodes10, which this push would take out of its card" in told
    assert hub.files(REPO) == before
    assert "pushed to" in publish("--configs", DEFAULT, "--repo_id", "nt_failures/one")
    data = DatasetCard(hub.files("datasets/nt_failures/one")["README.md"].decode()).data.to_dict()
    assert [config["config_name"] for config in data["configs"]] == [data["dataset_info"]["config_name"]] == [DEFAULT]


@pytest.mark.parametrize("breaks", ["upload", "commit"])
def test_connection_breaks(hub, publish, tmp_path, breaks):
    """Catches: half of the files visible; work done twice; a traceback. The same command must finish the push."""
    publish("--dry_run")
    train = f"{DEFAULT}/train-00000-of-00001.parquet"
    oid = hashlib.sha256((tmp_path / "out" / train).read_bytes()).hexdigest()
    if breaks == "upload":
        hub.fail_next("PUT", f"/lfs/{oid}", "drop", times=6)  # the client tries 6 times
    else:
        hub.fail_next("POST", "/commit/", "drop")
    told = publish()
    assert "cannot push to" in told
    assert "the same command goes on" in told
    assert "out is kept" in told
    assert hub.commits(REPO) == ["initial commit"]
    assert list(hub.files(REPO)) == [".gitattributes"]
    assert (oid in hub.blobs) == (breaks == "commit")
    uploaded = set(hub.blobs)
    hub.requests.clear()
    told = publish()
    assert "is complete from an earlier run" in told
    assert "pushed to" in told
    assert sum(method == "PUT" for method, _ in hub.requests) == len(set(hub.blobs) - uploaded)
    assert train in hub.files(REPO)


def test_hub_is_down(hub, publish):
    """Catches: a server's error that is a traceback."""
    hub.fail_next("POST", "/commit/", 503)
    assert "503" in publish()
    assert "pushed to" in publish()


def test_offline(publish, monkeypatch):
    """Catches: `HF_HUB_OFFLINE=1`, often set for good, told as a broken network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it" in publish()


@pytest.mark.parametrize("name", ["notes.txt", "README.md", f"{DEFAULT}/extra.parquet"])
def test_other_peoples_files_stay(hub, publish, tmp_path, name):
    """Catches: a folder replaced although it holds a file, or an edit, that this script did not make."""
    publish("--dry_run")
    (tmp_path / "out" / name).write_text("mine")
    before = contents(tmp_path / "out")
    for args in ([], ["--num_test", "9"]):
        told = publish(*args)
        assert "which this script did not write" in told or "was changed or deleted since this script wrote it" in told
        assert "--output_dir. Nothing was changed." in told
        assert contents(tmp_path / "out") == before
    assert hub.repos == {}


def test_a_folder_that_was_there_before(publish, tmp_path):
    """Catches: a folder of somebody's taken for ours; an empty one refused; a path that is a file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert "is there already and was not written by this script" in publish("--dry_run")
    (tmp_path / "out" / "thesis.tex").unlink()
    assert "written" in publish("--dry_run")
    assert "is there already and was not written" in publish("--dry_run", to=tmp_path / "out" / "README.md")


def test_other_code_writes_the_folder_anew(publish, monkeypatch):
    """Catches: a changed card text published as the old one."""
    publish("--dry_run")
    assert "is complete" in publish("--dry_run")
    monkeypatch.setattr(dataset_folder, "_code_hash", lambda: "of another card")
    assert "written" in publish("--dry_run")


def test_a_folder_that_cannot_be_exchanged_is_put_back(publish, tmp_path, monkeypatch):
    """Catches: the last good folder left under another name, as the new one could not take its place."""
    publish("--dry_run")
    before, moves = contents(tmp_path / "out"), []

    def second_fails(*names):
        moves.append(names)
        if len(moves) == 2:
            raise OSError("disk full")
        os.replace(*names)

    monkeypatch.setattr(dataset_folder, "os", SimpleNamespace(replace=second_fails))
    assert publish("--dry_run", "--num_test", "9") == "error: disk full"
    assert contents(tmp_path / "out") == before
    assert len(moves) == 3


def test_a_killed_build(publish, tmp_path, monkeypatch):
    """Catches: half a folder under the final name; the last good folder lost; a leftover that stops the next run."""
    publish("--dry_run")
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(datasets.Dataset, "to_parquet", lambda self, path: (_ for _ in ()).throw(OSError("disk full")))
        assert publish("--dry_run", "--num_test", "9") == "error: disk full"
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out"]
    partial = tmp_path / ".out.partial"  # what SIGKILL leaves
    (partial / DEFAULT).mkdir(parents=True)
    (partial / dataset_folder.MANIFEST).write_text('{"made_with": {}, "files": {}}')
    (partial / DEFAULT / "train-00000-of-00001.parquet").write_bytes(b"PAR1 half")
    assert "written" in publish("--dry_run", "--num_test", "9")
    assert not partial.exists()
    partial.mkdir()
    (partial / "thesis.tex").write_text("mine")
    assert "holds something else; move it away" in publish("--dry_run", "--num_test", "8")
    assert (partial / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--configs", "deg2-path5-nodes5"], "Did you mean 'deg2-path5-nodes50'"),
        (["--configs", "deg2-path5-nodes50-chat"], "is made from rows with text; publish deg2-path5-nodes50."),
        (["--num_train", "-1"], "num_train=-1"),
        (["--max_shard_size", "0MB"], "max_shard_size='0MB' is no size of a file; give one such as 500MB"),
        (["--max_shard_size", "many"], "max_shard_size='many'"),
        (["--repo_id", "a/b/c"], "'a/b/c'"),
        (["--repo_id", "pathstar"], "give it as OWNER/pathstar"),
        (["--task", "pathstar"], "Did you mean 'path_star'"),
    ],
)
def test_bad_options(hub, publish, tmp_path, args, told):
    """Catches: a typo that is found out after the build, or that exports something else."""
    assert told in publish(*args)
    assert not (tmp_path / "out").exists()
    assert hub.repos == {}
