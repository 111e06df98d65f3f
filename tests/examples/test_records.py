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


def test_a_changed_figure_is_named_and_mended(tmp_path):
    """Catches: a check that compares nothing; one that writes; a page whose own text is lost."""
    page = tmp_path / "RECORDS.md"
    shutil.copy(RESULTS / "RECORDS.md", page)
    whole = page.read_text()
    page.write_text(whole.replace("<!-- records: begin -->\n", "<!-- records: begin -->\n| mine | steps |\n"))
    with pytest.raises(ValueError, match=r"its logs do not give: \| mine \| steps \|; run again without --check"):
        load(SCRIPT).main([str(page), "--check"])
    assert "mine" in page.read_text()
    load(SCRIPT).main([str(page)])  # no logs beneath this folder
    text = page.read_text()
    assert "None yet" in text
    assert "mine" not in text
    assert text.split("<!-- records: begin -->")[0] == whole.split("<!-- records: begin -->")[0]


def test_a_page_without_marks(tmp_path):
    """Catches: a page that is written over whole."""
    (tmp_path / "RECORDS.md").write_text("mine\n")
    with pytest.raises(ValueError, match="has no lines <!-- records: begin -->"):
        load(SCRIPT).main([str(tmp_path / "RECORDS.md")])
    assert (tmp_path / "RECORDS.md").read_text() == "mine\n"
