"""Shared by all tests: no network, one thread, and the smallest task, tokenizer, rows and models."""

import copy
import functools
import gc
import os
import runpy
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import numpy as np
import pytest
import torch
from hub_server import Hub
from small_models import SMALL

from nt_failures.data.tokenizer import add_tokens, tokenize, word_level_tokenizer
from nt_failures.models.load import load_model
from nt_failures.tasks.path_star import PathStar


def pytest_addoption(parser):
    """The contracts of an objective (test_objectives.py) and of a task (test_tasks.py), for those of your own."""
    for kind in ("objective", "task"):
        parser.addoption(f"--{kind}", help=f"dotted path of a {kind} to test in place of the package's own")


def pytest_xdist_auto_num_workers(config):
    """Two processes share the tests of folders; files run in this one, as another takes seconds to start."""
    return 2 if all(Path(word.split("::")[0]).is_dir() for word in config.args) else 0


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """A shell starts what it puts into the background with SIGINT ignored, and every child would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Spinning threads on a busy machine are 30 times slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def imports_are_no_garbage():
    """Each training ends with a search for garbage, which takes longer than a tiny training where modules are searched,
    too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def task():
    """G(2, 3) with labels 0..9: 15 prefix tokens, 3 target tokens."""
    return PathStar(degree=2, path_length=3, num_nodes=10)


@pytest.fixture(scope="session")
def tokenizer(task):
    """15 tokens: the labels 0..9, `|` 10, `=` 11, `/` 12, `$` 13, `[PAD]` 14. Not to be changed by a test."""
    return word_level_tokenizer(task)


@pytest.fixture(scope="session")
def tokenizer_for(tokenizer):
    """`tokenizer_for(objective's class)`: the same ids, and behind them the tokens that only this objective knows."""

    def make(cls):
        known = copy.deepcopy(tokenizer)
        add_tokens(known, cls.extra_tokens)
        return known

    return make


@pytest.fixture(scope="session")
def tokenized(task, tokenizer):
    """32 tokenised rows, a Dataset."""
    text = task.render(task.sample(np.random.default_rng(0), 32))
    return tokenize(datasets.Dataset.from_dict({name: t.to_list() for name, t in text.items()}), tokenizer)


@pytest.fixture(scope="session")
def examples(tokenized):
    """32 rows, as a collator gets them: 15 prefix and 3 target tokens each."""
    return tokenized.to_list()


@pytest.fixture(scope="session")
def ragged(examples):
    """8 rows with prefixes of 15, 12 and 9 tokens (the first edges are missing) and targets of 3 and 2."""
    return [
        {
            "prefix_ids": row["prefix_ids"][3 * (i % 3) :],
            "target_ids": row["target_ids"][: 3 - i % 2],
            "target_positions": row["target_positions"][: 3 - i % 2],
        }
        for i, row in enumerate(examples[:8])
    ]


@pytest.fixture(scope="session")
def tiny_model(tokenizer):
    """`tiny_model(family, size="1x16", spread=None, known=tokenizer)`: a new model, the same at every call.

    `spread` is the standard deviation of all matrices; 0.5 makes an untrained model answer different rows differently.
    """

    def make(family, size="1x16", spread=None, known=tokenizer):
        torch.manual_seed(0)
        model = load_model(f"{family}-{size}", known, max_length=64, config_overrides=SMALL[family])
        if spread is not None:
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=spread)
        return model.eval()

    return make


@pytest.fixture
def hub():
    """A stand-in Hub without repos (hub_server.py); mark its tests `hub`."""
    with Hub() as server:
        yield server


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """`finished(objective, order)`: the folder of a run of examples/train.py, four steps of the smallest model."""
    root = tmp_path_factory.mktemp("finished")
    main = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "train.py"), run_name="train")["main"]

    @functools.cache
    def make(objective, order):
        folder = root / f"{objective}-{order}"
        flags = f"--objective {objective} --order {order} --output_dir {folder} --model gpt2-1x16 --max_steps 4"
        flags += " --degree 2 --path_length 4 --num_nodes 10 --num_train 32 --num_validation 16 --num_test 40"
        flags += " --eval_steps 2 --use_cpu true --per_device_train_batch_size 8 --sample_rows 0 --disable_tqdm true"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(root / "cache"))
            main(flags.split())
        return folder

    return lambda objective="next_token", order="forward": make(objective, order)


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """This process talks to the stand-in Hub, with its token and an empty cache."""
    address = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it keeps the address of the first Hub it met
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between tries
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub
