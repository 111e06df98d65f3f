"""examples/api_pages.py: the pages of all public objects, with their examples, and what a warning does."""

import html
import re
import warnings

import pdoc
import pytest
from scripts import EXAMPLES, load

import nt_failures


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of each page, by its path without the ending."""
    folder = tmp_path_factory.mktemp("pages")
    load(EXAMPLES / "api_pages.py").main(["--output_dir", str(folder)])
    found = {
        path.relative_to(folder).with_suffix(""): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")
    }
    return {str(path): text for path, text in found.items()}


def test_each_public_name_is_on_the_first_page(pages):
    """Catches: names that are imported when first used, and so are not there when the pages are made."""
    shown = set(re.findall(r'<section id="(\w+)">', pages["nt_failures"]))
    assert {*nt_failures.__all__} <= shown
    for folder in ("tasks", "diagnosis", "training/trainer", "experiments/study/differences"):
        assert f"nt_failures/{folder}" in pages
    assert "Traceback" not in pages["nt_failures"].partition("<main")[0]


def test_examples_are_code(pages):
    """Catches: an example that is shown as a quotation of a quotation, as `>>>` is in Markdown."""
    code = re.compile(r'<div class="pdoc-code codehilite">.*?</div>', flags=re.DOTALL)
    assert len(code.findall(pages["nt_failures"])) > 2 * len(nt_failures.__all__)
    for name, page in pages.items():
        rest = code.sub("", page)
        assert ">>>" not in html.unescape(rest), name
        assert not re.search(r"<blockquote>\s*<blockquote>", rest), name


def test_a_warning_is_an_error(tmp_path, monkeypatch):
    """Catches: pages that lack what could not be read, and nobody is told."""

    def warn(*modules, output_directory):
        warnings.warn_explicit("lost", UserWarning, pdoc.doc.__file__, 1)

    monkeypatch.setattr(pdoc, "pdoc", warn)
    with pytest.raises(ValueError, match="lost"):
        load(EXAMPLES / "api_pages.py").main(["--output_dir", str(tmp_path)])
