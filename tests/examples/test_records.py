"""examples/studies/records.py: the page is made from its logs, and a line that they do not give is found."""

import shutil

import pytest
from scripts import EXAMPLES, load

RESULTS = EXAMPLES / "results"
SCRIPT = EXAMPLES / "studies" / "records.py"


def test_the_committed_page_is_what_its_logs_give(capsys):
    """Catches: a record that was typed in, or that stands after its runs are gone."""
    load(SCRIPT).main(["--check"])
    assert "as its logs say" in capsys.readouterr().out


@pytest.fixture
def copied(tmp_path):
    """A copy of the page with its logs beneath it."""
    shutil.copytree(RESULTS, tmp_path / "results")
    return tmp_path / "results" / "RECORDS.md"


def test_a_changed_figure_is_named_and_mended(copied):
    """Catches: a check that compares nothing; one that writes; a page whose own text is lost."""
    whole = copied.read_text()
    copied.write_text(whole.replace("<!-- records: begin -->\n", "<!-- records: begin -->\n| mine | steps |\n"))
    with pytest.raises(ValueError, match=r"its logs do not give: \| mine \| steps \|; run again without --check"):
        load(SCRIPT).main([str(copied), "--check"])
    assert "mine" in copied.read_text()
    load(SCRIPT).main([str(copied)])
    assert copied.read_text() == whole
    copied.write_text("".join(line for line in whole.splitlines(True) if not line.startswith("| quickstart")))
    with pytest.raises(
        ValueError, match=r"; it lacks: \| quickstart \| gpt2-4x64, 64 \| next_token, reversed \| steps, FLOPs"
    ):
        load(SCRIPT).main([str(copied), "--check"])


def test_a_page_without_logs(tmp_path):
    """Catches: a page that is emptied as its logs were not copied with it."""
    shutil.copy(RESULTS / "RECORDS.md", tmp_path)
    with pytest.raises(ValueError, match=r"no results\.jsonl lies beneath .*; give the page that lies above its logs"):
        load(SCRIPT).main([str(tmp_path / "RECORDS.md")])
    assert (tmp_path / "RECORDS.md").read_text() == (RESULTS / "RECORDS.md").read_text()


def test_a_page_without_marks(tmp_path):
    """Catches: a page that is written over whole."""
    (tmp_path / "RECORDS.md").write_text("mine\n")
    with pytest.raises(ValueError, match="has no lines <!-- records: begin -->"):
        load(SCRIPT).main([str(tmp_path / "RECORDS.md")])
    assert (tmp_path / "RECORDS.md").read_text() == "mine\n"
