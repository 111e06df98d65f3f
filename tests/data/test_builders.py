"""`load_dataset("nt_failures/<task>")` for every task of the library."""

import datasets
import numpy as np
import pytest
from datasets import load_dataset

from nt_failures.data.columns import to_columns
from nt_failures.data.registration import BUILDERS, builder_class
from nt_failures.data.splits import builder_of
from nt_failures.tasks import TASKS

ROWS = {"num_train": 300, "num_validation": 40, "num_test": 60}
CONFIGS = [(name, config) for name, builder in BUILDERS.items() for config in builder.builder_configs]


def test_every_task_has_a_builder():
    """Catches: a task of the library that `load_dataset` does not know, or under another's name; two in one module, of
    which `datasets` would take the first for both; a named size that is left out."""
    assert {builder.task_class for builder in BUILDERS.values()} == {*TASKS.values()}
    assert [builder.REPO_ID for builder in BUILDERS.values()] == [*BUILDERS]
    named = {f"nt_failures/{name}" for name in TASKS if name != "path_star"}
    assert {*BUILDERS} == {"nt_failures/pathstar", *named}
    assert len({builder.__module__ for builder in BUILDERS.values()}) == len(BUILDERS)
    assert builder_class(object) is None
    for builder in BUILDERS.values():
        assert [*builder.builder_configs] == [*builder.task_class.CONFIGS]


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_rows_are_the_tasks(tmp_path, monkeypatch, name, config):
    """Catches: rows of another task, size or split than the config says; text of another row; splits that share what
    must not be divided; a name that is asked of the Hub."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    task = BUILDERS[name].builder_configs[config].task
    rows = load_dataset(name, config, cache_dir=str(tmp_path), **ROWS)
    assert {f"num_{split}": len(part) for split, part in rows.items()} == ROWS
    groups = {}
    for split, part in rows.items():
        assert part.info.config_name == config == task.config_name
        columns, drawn = to_columns(part), task.block(seed=0, split=split, index=0, rows=len(part))
        assert {*columns} == {*drawn}
        assert all(np.array_equal(columns[column], drawn[column]) for column in drawn)
        assert {column: part[column] for column in ("prompt", "completion")} == {
            column: text.to_list() for column, text in task.texts(drawn).items()
        }
        groups[split] = {*task.split_hash(columns).tolist()}
    assert not groups["train"] & (groups["validation"] | groups["test"])
    assert not groups["validation"] & groups["test"]


@pytest.mark.parametrize("name", BUILDERS)
def test_default_config_is_the_tasks(tmp_path, name):
    """Catches: rows of another size where no config is asked for; a named size that a stream or a run does not find."""
    builder = BUILDERS[name]
    assert datasets.get_dataset_default_config_name(name) == builder.task_class().config_name
    stream = load_dataset(name, split="test", cache_dir=str(tmp_path), streaming=True)
    first = builder.task_class().block(seed=0, split="test", index=0, rows=1)
    text = {column: text.to_list()[0] for column, text in builder.task_class().texts(first).items()}
    assert {column: next(iter(stream))[column] for column in text} == text
    for config in builder.builder_configs.values():
        assert type(builder_of(config.task)) is builder
        assert builder_of(config.task).config == config


@pytest.mark.parametrize("name", ["nt_failures/path_star", "nt_failures/pathstr", "nt_failures/PathStar"])
def test_a_misspelt_name_is_not_asked_of_the_hub(name):
    """Catches: minutes of retries, and an error about the network, for a letter."""
    with pytest.raises(
        ValueError, match=rf"^no data set '{name}'\. Did you mean 'nt_failures/pathstar'\? Known: .*sort"
    ):
        load_dataset(name)


def test_a_folder_of_that_name_is_read(tmp_path, monkeypatch):
    """Catches: files on disk that nobody can load, as they lie in a folder `nt_failures`."""
    (tmp_path / "nt_failures" / "mine").mkdir(parents=True)
    (tmp_path / "nt_failures" / "mine" / "train.csv").write_text("a\n7\n")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("nt_failures/mine", cache_dir=str(tmp_path / "cache"))["train"]["a"] == [7]
