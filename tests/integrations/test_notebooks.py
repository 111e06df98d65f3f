"""The notebooks of examples/notebooks, run whole from a fresh kernel."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def texts(notebook):
    """What its outputs say: printed text, and values as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def verdicts(notebook):
    """The first words of each verdict, in the order in which they are printed."""
    known = "Solved|Clever Hans|Indecipherable token|Memorised|Snowballing|Undertrained"
    return re.findall(rf"^({known})\b", texts(notebook), flags=re.MULTILINE)


@pytest.mark.slow
@every_notebook
def test_it_runs_whole(path, tmp_path, monkeypatch):
    """Catches: a notebook with an error, or whose verdicts are no longer the kept ones."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    kept = nbformat.read(path, as_version=4)
    run = nbformat.from_dict(kept)
    NotebookClient(run, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert verdicts(run) == verdicts(kept) != []


@every_notebook
def test_what_is_kept_can_be_read(path):
    """Catches: outputs missing or of another order of cells, a page too heavy, a folder of the author's machine, a
    figure in the text that no output has."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert path.stat().st_size < 300_000
    assert f"/examples/notebooks/{path.name}" in notebook.cells[0].source  # the badge opens this very notebook
    assert re.findall(r"(?<![\w.:/|])/[A-Za-z]\w*/\w+", texts(notebook)) == []
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    figures = set(re.findall(r"\d+\.\d %|\d+\.\d%", prose))
    assert [figure for figure in figures if figure.replace(" ", "") not in texts(notebook).replace(" ", "")] == []
