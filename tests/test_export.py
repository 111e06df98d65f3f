"""dataset_scripts/export_pathstar.py: Parquet that anyone reads, with the builder's rows."""

import importlib.util
from pathlib import Path

import datasets
import pytest

from nt_failures.builder import PathStarBuilder

SCRIPT = Path(__file__).parents[1] / "dataset_scripts" / "export_pathstar.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("export_pathstar", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def builder(tmp_path):
    return PathStarBuilder(cache_dir=str(tmp_path / "cache"), path_length=3, num_train=5000, num_test=10)


def test_parquet_holds_the_builders_rows(script, builder, tmp_path):
    """Catches: another order, another type, or a split under another name."""
    script.export(builder, tmp_path / "small")
    files = {split: str(tmp_path / "small" / f"{split}-*.parquet") for split in ("train", "test")}
    read = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "read"))
    own = builder.as_dataset()
    assert {split: rows.num_rows for split, rows in read.items()} == {"train": 5000, "test": 10}
    assert read["train"].features == own["train"].features
    assert read["train"].to_list() == own["train"].to_list()
    assert read["test"].to_list() == own["test"].to_list()


def test_whole_or_not_at_all(script, builder, tmp_path, monkeypatch):
    """Catches: half a config that looks finished; a finished one written again."""
    monkeypatch.setattr(datasets.Dataset, "to_parquet", lambda self, path: (_ for _ in ()).throw(OSError("disk full")))
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="disk full"):
        script.export(builder, tmp_path / "out" / "small")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "small").mkdir()
    script.export(builder, tmp_path / "out" / "small")
    assert list((tmp_path / "out" / "small").iterdir()) == []


def test_an_unknown_config_is_an_error(script, tmp_path):
    """Catches: a typo that exports something else."""
    with pytest.raises(ValueError, match="Did you mean 'deg2-path5-nodes50'"):
        script.main(["deg2-path5-nodes5", "--output_dir", str(tmp_path)])
