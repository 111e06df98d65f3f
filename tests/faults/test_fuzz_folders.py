"""Damaged model folders: `nt_failures.load` gives back the whole model, or refuses with the folder's name."""

import json
import shutil

import pytest
import torch
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st

from nt_failures import hub, load, run_card
from nt_failures.models import from_scratch, load_model
from nt_failures.objectives import NextToken
from nt_failures.records import save_run

FILES = [
    "config.json",
    "model.safetensors",
    "nt_failures.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
]


@pytest.fixture(scope="module")
def whole(tiny_model, tokenizer, task, tmp_path_factory):
    """The folder of a run, and what its model answers."""
    folder = tmp_path_factory.mktemp("whole")
    model = tiny_model("gpt2")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_run(folder, NextToken.from_tokenizer(tokenizer), task)
    ids = torch.tensor([[1, 2, 3]])
    return folder, ids, model(ids).logits


def copied(folder, scratch):
    """A copy to be damaged, always at the same place."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    return scratch


@fuzz(
    60,
    name=st.sampled_from(FILES),
    where=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["cut", "gone", "empty", "list", "flip"]),
)
def test_damaged_files(name, where, how, whole, tmp_path_factory):
    """Catches: Rust's, torch's and transformers' own errors; a model of which a part is drawn at random in silence."""
    folder = copied(whole[0], tmp_path_factory.getbasetemp() / "damaged")
    data = (folder / name).read_bytes()
    i = int(where * len(data))
    flipped = data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]
    new = {"cut": data[:i], "empty": b"", "list": b"[]", "flip": flipped, "gone": None}[how]
    if new is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(new)
    loaded = accepted(lambda: load(folder), "damaged", "config.json", errors=(ValueError, OSError))
    if (
        loaded is not None
        and how in ("cut", "gone", "empty", "list")
        and name not in ("config.json", "generation_config.json")
    ):
        assert torch.equal(loaded.model(whole[1]).logits, whole[2])


KEYS = [
    "n_layer",
    "n_embd",
    "n_head",
    "vocab_size",
    "n_positions",
    "model_type",
    "architectures",
    "pad_token_id",
    "tie_word_embeddings",
]


@fuzz(
    30,
    key=st.sampled_from(KEYS),
    value=st.one_of(
        st.integers(-1, 4), st.sampled_from([8, 32, 64, "gpt2", "llama"]), ODD.filter(lambda v: not isinstance(v, int))
    ),
)
def test_odd_config(key, value, whole, tmp_path_factory):
    """Catches: a config that does not go with its weights, so that layers are drawn at random in silence."""
    folder = copied(whole[0], tmp_path_factory.getbasetemp() / "config")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    accepted(lambda: load(folder), "config", errors=(ValueError, OSError))


@fuzz(
    60,
    part=st.sampled_from(["objective", "task"]),
    key=st.sampled_from(["objective", "task", "order", "degree", "positions", "extra"]),
    value=ODD,
)
def test_odd_description(part, key, value, whole, tmp_path_factory):
    """Catches: a description of another objective or task that breaks in the words of Python."""
    described = json.loads((whole[0] / "nt_failures.json").read_text())
    described[part] = value if key == "extra" else described[part] | {key: value}
    folder = tmp_path_factory.getbasetemp() / "described"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole[0] / name, folder)
    (folder / "nt_failures.json").write_text(json.dumps(described))
    with pytest.raises(
        ValueError, match=r"damaged|safetensors|unknown|option|no "
    ):  # none has weights here: only the description is read
        load(folder)


@fuzz(
    300,
    text=st.one_of(
        st.text(max_size=30), st.sampled_from(['{"weight_map": 5}', "[]", '{"weight_map": {"a": 5}}', "[" * 3000])
    ),
)
def test_results_and_index(text, whole, tmp_path_factory):
    """Catches: a damaged results.json or index that stops a push in the words of the JSON reader."""
    folder = tmp_path_factory.getbasetemp() / "index"
    folder.mkdir(exist_ok=True)
    for name in ("results.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    accepted(lambda: run_card.read_results(folder), "results.json")
    accepted(lambda: hub.check_whole(folder), "index.json", "missing")


SIZE = st.tuples(
    st.sampled_from(["gpt2", "gpt_neox", "llama", "mamba", "mamba2"]), st.integers(0, 2), st.integers(0, 33)
)


@fuzz(40, size=SIZE)
def test_small_sizes(size, tokenizer):
    """Catches: a width that a family cannot have, and that only the forward pass refuses."""
    name = "{}-{}x{}".format(*size)
    model = accepted(lambda: load_model(name, tokenizer, 16), name)
    if model is not None:
        with torch.no_grad():
            assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


@fuzz(
    1200,
    name=st.one_of(
        st.text(max_size=20),
        st.tuples(st.text(max_size=5), st.integers(), st.integers()).map(lambda t: f"{t[0]}-{t[1]}x{t[2]}"),
        st.tuples(st.just("gpt2"), st.integers(0, 10**12), st.integers(0, 10**12)).map(
            lambda t: f"{t[0]}-{t[1]}x{t[2]}"
        ),
    ),
)
def test_model_names(name):
    """Catches: a size that no machine builds taken for one, or a name that fails elsewhere than here."""
    if accepted(lambda: from_scratch(name), name):
        layers, width = name.removeprefix("gpt2-").split("x")
        assert int(layers) <= 999
        assert int(width) <= 99_999
