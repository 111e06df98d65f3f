"""A foreign file, trained on and diagnosed from the command line."""

import json

import datasets
import pytest
from scripts import EXAMPLES, TINY, load

from nt_failures.data.splits import load_splits
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with train.txt, test.txt and the run of a recipe on them."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
        for name, rows in load_splits(TASK, num_train=24, num_validation=1, num_test=40, seed=9).items():
            lines = [row["prompt"] + row["completion"] for row in rows]
            (folder / f"{name}.txt").write_text("\n".join(lines))
        (folder / "recipe.yaml").write_text(TINY)
        flags = [str(folder / "recipe.yaml"), "--output_dir", str(folder / "run")]
        flags += [f"--train_file={folder / 'train.txt'}", f"--test_file={folder / 'test.txt'}"]
        load(EXAMPLES / "train.py").main(flags)
    return folder


def test_the_run_says_where_its_rows_are_from(made):
    """Catches: drawn rows in place of the file's; a memorisation gap left out although all of the file was seen; a card
    that names a data set on the Hub, or says that it can be repeated."""
    results = json.loads((made / "run" / "results.json").read_text())
    assert results["rows"] == 32  # the first of the file's 40
    first = (made / "test.txt").read_text().split("\n")[0]
    assert results["instance"]["prompt"] + results["instance"]["completion"] == first
    assert results["diagnosis"]["decision_token"]["train_n"] == 24
    assert results["arguments"]["data"]["train_file"] == "train.txt"  # and no path of this machine
    assert results["local"] == ["train_file", "test_file"]
    card = (made / "run" / "README.md").read_text()
    head = card.split("---")[1]
    assert "nt_failures/pathstar" not in head
    assert "model-index" not in head
    assert "`train_file` and `test_file` was read from a local folder or file that is not published" in card
    assert "# train_file: a file on the machine of the run" in (made / "run" / "recipe.yaml").read_text()


def test_the_run_is_diagnosed_on_a_file(made, tmp_path):
    """Catches: drawn rows, which may be among those of the training file, called held out."""
    main = load(EXAMPLES / "diagnose.py").main
    with pytest.raises(ValueError, match=r"read its rows from a file \(train_file, test_file\).*give --test_file"):
        main([str(made / "run"), "--output_dir", str(tmp_path / "out")])
    flags = [str(made / "run"), "--test_file", str(made / "test.txt"), "--num_test", "32"]
    found = main([*flags, "--output_dir", str(tmp_path / "out")])
    results = json.loads((made / "run" / "results.json").read_text())
    assert json.loads(json.dumps(found["forced_vs_free"])) == results["diagnosis"]["forced_vs_free"]
    assert "train_accuracy" not in found["decision_token"]


def test_a_test_on_the_training_file_is_refused(made, tmp_path):
    """Catches: a run that is solved by heart, called solved."""
    flags = [str(made / "recipe.yaml"), "--output_dir", str(tmp_path / "run"), "--train_file", str(made / "test.txt")]
    with pytest.raises(ValueError, match="32 of 32 rows of test pose a problem of train"):
        load(EXAMPLES / "train.py").main([*flags, "--test_file", str(made / "test.txt")])
    assert not (tmp_path / "run").exists()
