"""dataset_scripts/publish_pathstar.py --task: the rows and the card of every other task."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard

from nt_failures.data.registration import builder_class
from nt_failures.tasks import TASKS

SCRIPTS = Path(__file__).parents[2] / "dataset_scripts"
sys.path.insert(0, str(SCRIPTS))
import publish_pathstar  # noqa: E402

OTHERS = [name for name in TASKS if name != "path_star"]
ROWS = {"num_train": 60, "num_validation": 7, "num_test": 200}
OPTIONS = [word for name, count in ROWS.items() for word in (f"--{name}", str(count))]

FACTS = {  # what the paper, the docstring and the arithmetic say, by hand
    "tree_star": ("A star whose arms branch", "| 3 | 2 | 5 | 100 | 60 | 7 | 200 |", "| 5 | 2 | 100% | 33.3% |"),
    "unequal_star": ("arms differ in length", "| 3 | 5 | 4 | 20 | nodes | 60 | 7 | 200 |", "| 5 | 2 | 100% | 33.3% |"),
    # of 200 sums 26 have the decision at position 1 and 15 at 2; in 3 the nines go on to the units: (3 + 38 / 2) / 41
    "addition": ("Add two numbers", "| 3 | 60 | 7 | 200 | 500,000 |", "| 4 | 1 to 2 | 20% | 53.7% |"),
    "hops": ("Go k steps along a cycle", "| 20 | 4 | True | 60 | 7 | 200 |", "| 4 | none | - | - |"),
    "siblings": ("Write two siblings", "| 5 | 50 | 10 | 0 | 60 | 7 | 200 |", "| 3 | 2 | 100% | 19.7% |"),
    "sort": ("Write labels in ascending order", "| 8 | 50 | copy | 60 | 7 | 200 |", "| 8 | none | - | - |"),
    "in_weights_star": (
        "One star of paths that no prompt",
        "| 5000 | 5 | 0 | 60 | 7 | 200 |",
        "| 5 | 2 | 100% | 1 in 1,250 |",
    ),
    "countdown": ("Combine numbers by equations", "| 4 | 50 | 100 | 60 | 7 | 200 |", "| 15 | 1 | 100% | 54.3% |"),
}
SOURCES = {"tree_star": "2503.10542", "unequal_star": "2505.05755", "addition": "2502.19981", "hops": "2512.17351"}
SOURCES |= {"sort": "2310.16028", "in_weights_star": "2510.26745", "countdown": "2410.14157"}
SOURCES |= {"siblings": "2504.15266"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(*args)`: the folder that the script writes, without a push."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def call(*args, to="out"):
        publish_pathstar.main([*args, "--dry_run", "--output_dir", str(tmp_path / to)])
        return tmp_path / to

    return call


@pytest.mark.parametrize("task", OTHERS)
def test_the_folder_has_the_builders_rows(write, tmp_path, task):
    """Catches: a config left out; rows, order, types or splits that differ from the builder's; another default; a
    figure of a graph where there is none."""
    folder, known = write("--task", task, *OPTIONS), builder_class(TASKS[task])
    assert {path.name for path in folder.iterdir()} == {*known.builder_configs, "README.md", ".published.json"}
    assert get_dataset_config_names(str(folder)) == [*known.builder_configs]
    for given in (*known.builder_configs, None):
        rows = load_dataset(str(folder), given, cache_dir=str(tmp_path / "read"))
        builder = known(str(tmp_path / "drawn"), config_name=given, **ROWS)
        builder.download_and_prepare()
        drawn = builder.as_dataset()
        assert list(rows) == list(drawn) == ["train", "validation", "test"]
        for split in drawn:
            assert rows[split].features == drawn[split].features
            assert rows[split].data.table.equals(drawn[split].data.table)


@pytest.mark.parametrize("task", OTHERS)
def test_the_card_says_what_the_task_is(write, task):
    """Catches: a card of path-star graphs for another task; a decision, chance or number of problems of another config;
    a source left out; a command or an example that makes something else."""
    folder = write("--task", task, *OPTIONS)
    text = (folder / "README.md").read_text(encoding="utf-8")
    card = DatasetCard(text)
    assert card.data.to_dict()["license"] == "apache-2.0"
    assert [part for part in (*FACTS[task], f"https://arxiv.org/abs/{SOURCES[task]}") if part not in text] == []
    fitting = [line for line in text.splitlines() if FACTS[task][1] in line]
    assert any(FACTS[task][2] in line for line in fitting)
    assert "ath-star graphs" not in text.split("## Configs")[1]
    assert "graph.png" not in text
    said = text.split("Parameters:\n\n")[1].split("\n\n")[0]
    named = [found[1] for line in said.splitlines() if (found := re.match(r"- `(\w+)`: ", line))]
    assert named == [*TASKS[task]().to_dict()]
    assert ">>>" not in said
    (drawn,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import nt_failures" in code]
    assert f'load_dataset("nt_failures/{task}"' in drawn
    names = {}
    exec(drawn, names)
    first = load_dataset(str(folder), split="train[:1]")[0]
    assert names["data"]["train"][0] == names["more"]["train"][0] == first
    words = shlex.split(re.search(r"```bash\n(.*)\n```", text)[1])
    assert words[:2] == ["python", "dataset_scripts/publish_pathstar.py"]
    again = write(*words[2:], to="again")
    assert (again / "README.md").read_bytes() == (folder / "README.md").read_bytes()


def test_a_split_with_few_problems_is_told(write):
    """Catches: repeated rows that nobody hears of; a sentence for a size that has enough of them."""
    sums = ("--task", "addition", "--num_test", "9", "--num_train")
    few, many = (write(*sums, count, to=count) / "README.md" for count in ("5000", "6000"))
    assert "`digits2`" not in few.read_text().split("## Limits")[1]  # not 1.5 times 6/8 of 5,050
    limits = many.read_text().split("## Limits")[1]
    assert "`digits2`: train: 6,000 rows of only about 3,788 different sums" in limits
    assert "`digits3`" not in limits
