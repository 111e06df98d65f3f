"""examples/space: the app through its own client, what it refuses, and the files that make it a Space."""

import argparse
import dataclasses
import html
import re
import sys
import urllib.request
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from gradio_client import Client
from transformers import GPT2Config, GPT2LMHeadModel

import nt_failures as ntf
from nt_failures.tasks.path_star import PathStar

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples" / "space"
sys.path.insert(0, str(SPACE))

import app  # noqa: E402
import page  # noqa: E402
import steps  # noqa: E402

EVIL = "<script>alert('${1}')</script>"


def text(markup):
    """Words of the markup, one space between."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def flags(model, **parameters):
    none = dict.fromkeys(("degree", "path_length", "num_nodes", "import_module"))
    return argparse.Namespace(**{"model": str(model), **none, **parameters})


@pytest.fixture(scope="module")
def stock(tmp_path_factory, tiny_model, tokenizer):
    """A folder with a model that says nothing about a task; it knows the labels 0..9."""
    folder = tmp_path_factory.mktemp("stock")
    tiny_model("gpt2", spread=0.5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def demo(stock):
    return app.Demo(str(stock), *app.load(flags(stock, degree=2, path_length=4, num_nodes=10)))


@pytest.fixture(scope="module")
def served(demo):
    """The address of the app, on a free port of this machine."""
    blocks = app.build(demo)
    _, url, _ = blocks.launch(**app.LAUNCH, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield url
    blocks.close(verbose=False)


def test_model_must_be_named(monkeypatch):
    """Catches: a demo that starts on nothing, or that does not see the Space's variable."""
    monkeypatch.delenv("MODEL", raising=False)
    with pytest.raises(ValueError, match="no model given; name the folder of a run or a Hub id"):
        app.parse([])
    monkeypatch.setenv("MODEL", "someone/model")
    assert app.parse([]).model == "someone/model"
    assert app.parse(["other"]).model == "other"


def test_models_that_cannot_be_shown(tmp_path, stock):
    """Catches: a traceback instead of one line that says what to give."""
    with pytest.raises(ValueError, match=r"holds no model: config.json is missing"):
        app.load(flags(tmp_path))
    with pytest.raises(ValueError, match="is no folder with a model, and no Hub id within reach"):
        app.load(flags("no/where"))
    with pytest.raises(ValueError, match="does not say which task it was trained on; give all of its parameters"):
        app.load(flags(stock, degree=2))
    with pytest.raises(ValueError, match="cannot write"):
        app.load(flags(stock, degree=2, path_length=5, num_nodes=50))
    with pytest.raises(ValueError, match="was trained on str; the demo draws path-star graphs only"):
        app.choose_task(flags("m"), "another task")


def test_an_objective_that_decodes_in_its_own_way_is_refused_at_the_start(tokenizer, monkeypatch):
    """Catches: a demo that starts, and fails at each request."""
    objective, task = ntf.JointMultiToken.from_tokenizer(tokenizer), PathStar(2, 3, 10)
    model = ntf.load_model("gpt2-1x16", tokenizer, max_length=32)
    objective.attach(model)
    loaded = SimpleNamespace(model=model, tokenizer=tokenizer, objective=objective, task=task)
    monkeypatch.setattr(app.ntf, "load", lambda name: loaded)
    with pytest.raises(ValueError, match="does not predict with the stock model alone"):
        app.load(flags("joint"))


def test_model_must_have_room_for_the_graph(tmp_path, tokenizer):
    """Catches: a model with too few positions that fails at the first click."""
    config = GPT2Config(n_layer=1, n_embd=8, n_head=1, n_positions=12, vocab_size=len(tokenizer))
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="takes sequences of up to 12 tokens and these need 18"):
        app.load(flags(tmp_path, degree=2, path_length=3, num_nodes=10))


def test_flags_override_the_trained_task():
    """Catches: parameters of a described model that are ignored."""
    trained = PathStar(2, 5, 50)
    assert app.choose_task(flags("m"), trained) == trained
    assert app.choose_task(flags("m", degree=3), trained) == dataclasses.replace(trained, degree=3)


def test_app_answers(served, demo):
    """Catches: handlers wired to the wrong components, a step beyond the end, a refused line that changes the page."""
    client = Client(served, verbose=False)
    row = steps.test_graph(demo.task, 3)
    w = steps.walk(demo.predictor, row)
    step, arm, line, picture, shown, message = client.predict(3, api_name="/graph")
    assert (step["value"], step["maximum"], line, message) == (2, 4, steps.prompt(demo.task, row), "")
    assert (arm["value"], arm["visible"]) == (0, False)
    assert f"source {row['source']}, goal {row['goal']}. On its own, step 2 of 4" in picture
    assert shown == page.steps(w, w.ways, 2)

    step = 2
    for expected in (3, 4, 4):
        step, _, shown = client.predict(step, api_name="/next")
        assert (step, shown) == (expected, page.steps(w, w.ways, expected))
    assert client.predict(4, api_name="/previous")[0] == 3
    assert client.predict(1, api_name="/show")[1] == page.steps(w, w.ways, 1)

    step, _, shown = client.predict(0, 4, api_name="/reveal")
    assert step == 2
    assert f"Given {steps.wrong_arms(row)[0][1]}, it " in text(shown)
    assert 'data-way="wrong arm"' in client.predict(2, api_name="/next")[2]
    step, _, shown = client.predict(0, 3, api_name="/reveal")
    assert (step, shown) == (3, page.steps(w, w.ways, 3))

    refused = client.predict(EVIL, api_name="/own_line")
    assert "not a path-star line: &quot;&lt;script&gt;" in refused[-1]
    assert client.predict(1, api_name="/show")[1] == page.steps(w, w.ways, 1)  # the graph of before


def test_app_takes_own_lines_and_numbers(served, demo):
    """Catches: a pasted graph that is not opened, a training graph passed off as unseen, numbers that fail silently."""
    client = Client(served, verbose=False)
    splits = set()
    for line in ("1,2|3,4|2,3|1,5|5,6|6,7/1,7=", "1,2|3,4|2,3|1,5|5,6|6,8/1,8=", "1,2|3,4|2,3|1,5|5,6|6,9/1,9="):
        opened = client.predict(line, api_name="/own_line")
        split = demo.task.split_of(steps.columns_of(steps.own_line(demo.task, line)))[0]
        assert opened[2] == line
        assert f"It falls into the {split} split" in opened[-1]
        assert ("may have been trained on it" in opened[-1]) == (split == "train")
        assert ("overlap=&quot;forbid&quot; has not seen it" in opened[-1]) == (split != "train")
        splits.add(split)
    assert "train" in splits
    assert [client.predict(n, api_name="/another")[0] for n in (0, 41, 4095)] == [1, 42, 0]
    assert "there is no test graph 5000" in client.predict(5000, api_name="/graph")[-1]
    assert "there is no test graph 2.5; give a whole number" in client.predict(2.5, api_name="/graph")[-1]


def test_the_page_does_not_say_held_out(served):
    """Catches: graphs called held out for a model that was trained with overlap="allow"."""
    with urllib.request.urlopen(served + "config") as answer:
        config = answer.read().decode()
    assert "Test graph" in config
    assert "Held-out" not in config


def test_page_needs_no_other_host(served):
    """Catches: fonts, scripts or analytics from elsewhere."""
    with urllib.request.urlopen(served) as answer:
        markup = answer.read().decode()
    loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?://[^\"]+)\"", markup)
    assert [url for url in loaded if not url.startswith(served)] == []
    assert '"analytics_enabled":false' in markup.replace(" ", "")


def test_only_the_folders_name_is_shown(served, demo, stock):
    """Catches: the path of a folder on the machine, shown to every visitor."""
    assert demo.name == stock.name
    with urllib.request.urlopen(served + "config") as answer:
        config = answer.read().decode()
    assert stock.name in config
    assert str(stock.parent) not in config


# ---------------------------------------------------------------- as a Space


def test_space_files_agree_with_the_package():
    """Catches: a Space that builds with other versions than those tested, or starts another file."""
    matter = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert (matter["sdk"], matter["sdk_version"]) == ("gradio", pins["gradio"])
    assert (SPACE / matter["app_file"]).is_file()
    assert matter["license"] == "apache-2.0"
    assert len(matter["short_description"]) <= 60
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = (SPACE / "requirements.txt").read_text().splitlines()
    assert [line for line in listed if not line.startswith("#")] == setup["options"]["install_requires"].split()


def test_a_tab_of_before_a_restart(demo):
    """Catches: an AttributeError for whoever clicks in a tab whose walk the server has forgotten."""
    for made in (demo.go(None, None, 2, 1), demo.reveal(None, None, 0, 2), demo.reveal(None, "arm", 0, 2)):
        assert made[-2:] == [app.gr.skip(), app.gr.skip()]
