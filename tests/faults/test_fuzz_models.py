"""Damaged model folders: what loads is the model that was saved, or one refusal says which file is damaged and what to
do."""

import contextlib
import json
import shutil

import pytest
import torch
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.hub.load import load
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.models.load import load_model
from nt_failures.objectives import FutureBag
from nt_failures.objectives.auxiliary_modules import MODULES_FILE
from nt_failures.tasks.path_star import PathStar
from nt_failures.training.trainer import ObjectiveTrainer, ObjectiveTrainingArguments

FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
FILES += ["model.safetensors", MODULES_FILE, RUN_FILE, "results.json"]
JSON = [name for name in FILES if name.endswith(".json")]
"""`results.json` is no part of a model: however odd, it is not read."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, as the Trainer writes it, with modules of its objective."""
    folder, task = tmp_path_factory.mktemp("models") / "run", PathStar(2, 3, 10)
    tokenizer = word_level_tokenizer(task)
    torch.manual_seed(0)
    model = load_model("gpt2-1x16", tokenizer, 48)
    args = ObjectiveTrainingArguments(str(folder), use_cpu=True, report_to=[], disable_tqdm=True)
    objective = FutureBag.from_tokenizer(tokenizer)
    ObjectiveTrainer(model, args, objective=objective, task=task, processing_class=tokenizer).save_model()
    (folder / "results.json").write_text('{"steps": 4, "metrics": {"free/exact": 0.5}}')
    return folder


@pytest.fixture(scope="module")
def stock(run):
    """The same model without a word about where it comes from."""
    folder = shutil.copytree(run, run.parent / "stock")
    for name in (MODULES_FILE, RUN_FILE, "results.json"):
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def whole(run):
    """What a load of the undamaged run gives."""
    return said(load(str(run)))


def said(loaded):
    """All that tells one loaded model from another."""
    ids = torch.tensor([[1, 2, 10, 3, 4, 11, 1, 4, 12]])
    with torch.no_grad():
        logits = loaded.model(ids).logits
    state = {name: tensor.sum().item() for name, tensor in loaded.model.state_dict().items()}
    settings = loaded.model.generation_config.to_json_string()
    return logits.tolist(), state, loaded.objective, loaded.task, loaded.tokenizer.get_vocab(), settings


@contextlib.contextmanager
def damaged(folder, changes):
    """The folder with other contents of some files, None for none, for the time being."""
    before = {name: (folder / name).read_bytes() for name in changes}
    try:
        for name, content in changes.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        yield
    finally:
        for name, content in before.items():
            (folder / name).write_bytes(content)


@st.composite
def bad_bytes(draw):
    """A change of a file's content: bits flipped, bytes cut out or put in, the end missing."""
    kind, place, length = draw(st.integers(0, 4)), draw(st.floats(0, 1)), draw(st.integers(1, 300))
    put_in = draw(st.sampled_from([b"[" * 3000, b"\0", b"null,", b"NaN", b"\xff", b"9" * 5000, b'{"a":' * 2000]))

    def change(content):
        i = min(int(place * len(content)), len(content) - 1)
        if kind <= 1:
            return content[:i] + bytes([content[i] ^ 1 << length % 8]) + content[i + 1 :]
        return content[:i] + {2: content[i + length :], 3: put_in + content[i:], 4: b""}[kind]

    return change


@st.composite
def odd_json(draw):
    """A change of one value, somewhere in a JSON file, or its removal."""
    which, value, remove = draw(st.integers(0, 10**6)), draw(st.one_of(ODD, SLY)), draw(st.booleans())

    def change(content):
        whole = json.loads(content)
        places = list(_places(whole))
        inside, key = places[which % len(places)]
        if remove:
            del inside[key]
        else:
            inside[key] = value
        return json.dumps(whole).encode()

    return change


SLY = st.sampled_from(
    [
        *["../../etc/passwd", "/etc/passwd", "os.system", "gpt2", "llama", "mamba", "reversed", "teacherless"],
        *["float16", "auto", "PreTrainedTokenizer", {"AutoModelForCausalLM": "theirs.Model"}, [], {}],
        *[0, 1, 2, 16, 10**9, 1e-9],
    ]
)
"""Values that stand in such files elsewhere."""


def _places(value):
    if isinstance(value, (dict, list)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def judged(folder, changes, whole=None):
    """Load; where that succeeds, and the folder says what was saved there, it is what was saved there."""
    with damaged(folder, changes):
        loaded = accepted(lambda: load(str(folder)), folder.name, errors=(ValueError, OSError))
    if loaded is not None and whole is not None:
        assert said(loaded) == whole


@fuzz(200, name=st.sampled_from(FILES), change=bad_bytes())
def test_damaged_bytes_of_a_run(name, change, run, whole):
    """Catches: a flipped bit of the weights, which no reader sees; another model, task or order than the one saved."""
    judged(run, {name: change((run / name).read_bytes())}, whole)


@fuzz(150, name=st.sampled_from(JSON), change=odd_json())
def test_odd_json_of_a_run(name, change, run, whole):
    """Catches: a config of other heads, another epsilon or activation, whose weights fit all the same."""
    judged(run, {name: change((run / name).read_bytes())}, whole)


@fuzz(40, one=st.sampled_from(FILES), other=st.sampled_from([*FILES, None]))
def test_files_of_a_run_missing_or_swapped(one, other, run, whole):
    """Catches: a file that is not there, or is another one, and is done without in silence."""
    judged(
        run, {one: None} if other is None else {one: (run / other).read_bytes(), other: (run / one).read_bytes()}, whole
    )


@fuzz(100, name=st.sampled_from(FILES[:5]), change=bad_bytes())
def test_damaged_bytes_of_a_stock_model(name, change, stock):
    """Catches: an error in the words of Rust, pickle or safetensors, or none that names the folder."""
    judged(stock, {name: change((stock / name).read_bytes())})


@fuzz(120, name=st.sampled_from(FILES[:4]), change=odd_json())
def test_odd_json_of_a_stock_model(name, change, stock):
    """Catches: a TypeError of a config's innards; a layer count that fills the memory; code of the folder's own."""
    judged(stock, {name: change((stock / name).read_bytes())})
