"""The Space of the path metric: the page is built as a Space builds it, served on the loopback, and asked for
scores."""

import runpy
import socket

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from nt_failures.evaluation import path_accuracy

APP = runpy.run_path(str(path_accuracy.__path__[0] + "/app.py"), run_name="space")
PROMPT = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12="
PATH = "32,34,6,16,12"


@pytest.fixture(scope="module")
def served():
    """A client of the page, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = APP["build"]()
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    yield Client(f"http://127.0.0.1:{port}", verbose=False)
    page.close()


def scores(table):
    return dict(table["data"])


def test_the_page_gives_the_scores(served):
    """Catches: a page that does not start with the installed gradio (evaluate's own widget does not), shares in
    percent."""
    given = scores(
        served.predict(f"{PATH}\n32,3,19,47,28", f"{PATH}\n{PATH}\n", f"{PROMPT}\n" * 2, 2, api_name="/score")
    )
    assert (given["exact"], given["decision"], given["wrong_arm"], given["n"]) == ("0.5000", "0.5000", "0.5000", "2")


def test_prompts_are_optional(served):
    """Catches: an empty box read as one empty prompt; a blank line, an answer without nodes, that is dropped."""
    given = scores(served.predict(f"{PATH}\n\n{PATH}", f"{PATH}\n" * 3, "", 2, api_name="/score"))
    assert (given["exact"], given["n"], "valid_path" in given) == ("0.6667", "3", False)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("1,2\n1,2", "1,2", "", 2), "1 references for 2 predictions"),
        (("1,2", "1,2", "", 9), "decision_position=9"),
        (("1,2", "1,2", "", None), "decision_position=None is no position of every reference"),
        (("1,2\n" * 1001, "1,2\n" * 1001, "", 2), "1,001 lines; this page takes 1,000"),
        (("1,2", "1,2", "x", 2), "not a path-star line: &#x27;x&#x27;"),
        (("1,2", "1,<img src=x onerror=alert(1)>", "", 2), "&lt;img src=x onerror=alert(1)&gt;"),
    ],
)
def test_bad_inputs_are_told_and_escaped(served, inputs, message):
    """Catches: an 'Error' without a reason, a frozen page, a visitor's HTML in the message."""
    with pytest.raises(AppError) as error:
        served.predict(*inputs, api_name="/score")
    assert message in str(error.value)
    assert "<img" not in str(error.value)


def test_the_card_stands_below():
    """Catches: the front matter shown as text, or a page without the card."""
    (card,) = [
        b.value for b in APP["build"]().blocks.values() if isinstance(b, gr.Markdown) and "Metric card" in b.value
    ]
    assert card.startswith("# Metric card")
    assert "sdk_version" not in card
