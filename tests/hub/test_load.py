"""Loading: a saved run comes back with what it was trained for; a stock model says nothing; damage is an error."""

import json
import re

import datasets
import pytest
import torch

import nt_failures
from nt_failures.data.columns import to_table
from nt_failures.data.tokenizer import add_tokens, tokenize, word_level_tokenizer
from nt_failures.hub.integrity import check_whole, save_run
from nt_failures.hub.load import load
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.models.load import load_model
from nt_failures.objectives import NextToken, find_objective
from nt_failures.registry import NotImported
from nt_failures.tasks import read_task
from nt_failures.tasks.path_star import PathStar
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

TASK = PathStar(3, 4, 17)
OPTIONS = {"next_token": {"positions": (2, 3)}, "hybrid": {"share": 0.25}, "masked_teacher": {"rate": 0.3}}
"""Beside the order; an objective that is not named here has none, or keeps its defaults."""


@pytest.fixture(scope="module")
def tokenizer():
    return word_level_tokenizer(TASK)


@pytest.fixture(scope="module")
def save(tokenizer):
    """`save(objective, folder, task, tokenizer)`: a run folder, written by the trainer."""

    def write(objective, folder, task=TASK, tokenizer=tokenizer):
        torch.manual_seed(1)
        model = load_model("gpt2-1x16", tokenizer, 48)
        args = ObjectiveTrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True)
        empty = datasets.Dataset.from_dict({})
        trainer = ObjectiveTrainer(
            model, args, objective=objective, task=task, train_dataset=empty, processing_class=tokenizer
        )
        trainer.save_model()
        return model.eval()

    return write


@pytest.fixture
def stock(tokenizer, tmp_path):
    """A folder that any script may have written: weights and tokenizer, and no word about an objective."""
    load_model("gpt2-1x16", tokenizer, 48).save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


def test_an_objective_of_another_script(save, tokenizer, tmp_path):
    """Catches: a run called damaged, with the advice to save it again, because a notebook had defined its objective."""
    save(NextToken.from_tokenizer(tokenizer), tmp_path / "run")
    file = tmp_path / "run" / "nt_failures.json"
    file.write_text(json.dumps({"objective": {"objective": "__main__.Mine"}}))
    with pytest.raises(NotImported, match=r"names '__main__.Mine', a class of a script or notebook .*; run its def"):
        load(str(tmp_path / "run"))


def test_a_folder_without_a_tokenizer(stock):
    """Catches: the empty tokenizer that transformers makes, with which every answer is wrong."""
    for file in stock.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="stock holds no tokenizer; save its own there"):
        load(str(stock))


@pytest.mark.parametrize("name", ["joint_multi_token", "future_bag", "belief_state", "next_latent"])
def test_a_loaded_run_goes_on_in_a_trainer(name, finished, tmp_path):
    """Catches: a trained model that no Trainer takes any more, or takes with new modules in place of the trained ones;
    the modules of one objective taken for those of another."""
    run = load(str(finished(name)))
    table = to_table(run.task, run.task.block(0, "test", 0, rows=40))
    rows = tokenize(datasets.Dataset(table), run.tokenizer)
    args = ObjectiveTrainingArguments(str(tmp_path), max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True, seed=0)
    sets = {"task": run.task, "train_dataset": rows, "eval_dataset": rows, "processing_class": run.tokenizer}
    trainer = ObjectiveTrainer(run.model, args, objective=run.objective, **sets)
    tested = json.loads((finished(name) / "results.json").read_text())["metrics"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(tested["loss"], rel=1e-5)
    trainer.train()
    with pytest.raises(ValueError, match="in it already; give the objective that they are of"):
        ObjectiveTrainer(run.model, args, objective=find_objective("token_order").from_tokenizer(run.tokenizer), **sets)


def test_a_run_of_another_definition_is_refused(save, tokenizer, tmp_path, monkeypatch):
    """Catches: a run of an old definition that is loaded, or is called damaged and asks to be saved again."""
    save(NextToken.from_tokenizer(tokenizer), tmp_path / "run")
    monkeypatch.setattr(NextToken, "VERSION", 2)
    says = (
        f"{tmp_path / 'run'}: it was trained under version 1 of next_token, and next_token is version 2 now, another "
    )
    says += "definition; train it again, or load it with the nt_failures that trained it."
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        load(str(tmp_path / "run"))


def test_the_chat_template_of_a_checkpoint_comes_back(save, tmp_path):
    """Catches: a run whose tokenizer has one, as those of chat models do, refused as damaged: its file is no JSON."""
    chat = word_level_tokenizer(TASK)
    chat.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    save(NextToken.from_tokenizer(chat), tmp_path / "run", tokenizer=chat)
    assert (tmp_path / "run" / "chat_template.jinja").is_file()
    assert load(tmp_path / "run").tokenizer.chat_template == chat.chat_template
    check_whole(tmp_path / "run")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_comes_back_whole(name, save, tmp_path):
    """Catches: an option, the order or the task lost on the way; a tuple that comes back as a list; other weights."""
    cls, tokenizer = find_objective(name), word_level_tokenizer(TASK)
    add_tokens(tokenizer, cls.extra_tokens)
    objective = cls.from_tokenizer(tokenizer, order="reversed", **OPTIONS[name])
    model = save(objective, tmp_path, tokenizer=tokenizer)
    loaded = nt_failures.load(str(tmp_path))
    assert type(loaded.objective) is type(objective)
    assert loaded.objective == objective
    assert loaded.task == TASK
    assert loaded.described
    assert not loaded.model.training
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    ids = torch.tensor([[1, 2, 17, 3, 4, 19, 1, 4, 18]])
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)


def test_a_run_without_a_task(save, tokenizer, tmp_path):
    """Catches: a run on the user's own rows that cannot be loaded, or comes back with a task it never had."""
    objective = NextToken.from_tokenizer(tokenizer, order="reversed")
    save(objective, tmp_path, task=None)
    loaded = load(str(tmp_path))
    assert (loaded.task, loaded.objective, loaded.described) == (None, objective, True)


def test_a_stock_model_is_next_token_and_says_so(stock, tokenizer):
    """Catches: an assumption passed off as what the model said; padding with a token that is none."""
    loaded = load(str(stock))
    assert loaded.objective == NextToken.from_tokenizer(tokenizer)
    assert loaded.objective.pad_token_id == tokenizer.pad_token_id != 0
    assert (loaded.task, loaded.described) == (None, False)


def test_options_go_to_the_model(stock):
    """Catches: a dtype that is asked for and ignored."""
    assert load(str(stock), dtype=torch.bfloat16).model.dtype == torch.bfloat16


DAMAGE = {
    "torn": '{"objective": {"objective": "next_to',
    "empty": "",
    "no text": b"\xff\xfe\x00",
    "no mapping": "5",
    "a list": "[1]",
    "nested beyond reason": "[" * 100_000,
    "a word": '"next_token"',
    "no objective's name": '{"objective": {"order": "forward"}}',
    "an unknown objective": '{"objective": {"objective": "telepathy"}}',
    "an unknown option": '{"objective": {"objective": "next_token", "speed": 3}}',
    "an option out of range": '{"objective": {"objective": "next_token", "order": "sideways"}}',
    "an objective that is no mapping": '{"objective": null}',
    "a task without a name": '{"objective": {"objective": "next_token"}, "task": {"degree": 2}}',
    "an unknown task": '{"objective": {"objective": "next_token"}, "task": {"task": "chess"}}',
    "an unknown knob": '{"objective": {"objective": "next_token"}, "task": {"task": "path_star", "arms": 2}}',
    "a knob out of range": '{"objective": {"objective": "next_token"}, "task": {"task": "path_star", "degree": 0}}',
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_a_value_error(case, stock):
    """Catches: a bare message of the JSON reader, which says neither what is damaged nor what to do; a damaged
    description read as none, so that next-token is assumed."""
    content = DAMAGE[case]
    (stock / RUN_FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"stock: nt_failures\.json is .*; save the model again"):
        load(str(stock))
    with pytest.raises(ValueError, match=r"stock: nt_failures\.json is .*; save the model again"):
        load(stock)  # a Path


HALF = ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"]


@pytest.mark.parametrize("kept", [0, 0.5], ids=["empty", "half"])
@pytest.mark.parametrize("name", HALF)
def test_a_file_that_is_cut_off_is_named(name, kept, stock):
    """Catches: an error of another library that names no file, or generation settings half ignored in silence."""
    file = stock / name
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(ValueError, match=rf"stock: {name} is .*(not JSON|cut off).*save the model again"):
        load(str(stock))


def test_other_tokenizer_files_that_nobody_can_read(stock):
    """Catches: advice to install sentencepiece for a missing file; a KeyError for JSON that is no tokenizer."""
    (stock / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"stock: the tokenizer is damaged .*; save the model again"):
        load(str(stock))
    (stock / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"stock: the tokenizer is damaged .*; save the model again"):
        load(str(stock))


@pytest.mark.parametrize("name", ["./nothere", "~/nothere", "outputs/a/b"])
def test_a_folder_that_is_not_there(name, tmp_path, monkeypatch):
    """Catches: the spelling rules of the Hub as the answer to a mistyped folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"'{name}' is no folder, and no repository can have that name; give the folder"
    ):
        load(name)


def test_a_file_is_no_folder(stock):
    """Catches: advice about tokenizers for the path of a file."""
    with pytest.raises(ValueError, match=r"config\.json' is a file; give the folder it lies in"):
        load(str(stock / "config.json"))


def test_a_task_alone_leaves_the_objective_assumed(stock):
    """Catches: an objective reported as the model's own because the file says something, but nothing of it."""
    (stock / RUN_FILE).write_text('{"task": {"task": "path_star", "degree": 3, "path_length": 4, "num_nodes": 17}}')
    loaded = load(str(stock))
    assert (loaded.task, loaded.described) == (TASK, False)


def test_tasks_come_back(tokenizer, tmp_path):
    """Catches: a description that changes the dictionary it is read from; knobs of another size."""
    save_run(tmp_path, NextToken(), TASK)
    described = json.loads((tmp_path / RUN_FILE).read_text())
    values = dict(described["task"])
    assert read_task(values) == TASK
    assert values == described["task"] == {"task": "path_star", "degree": 3, "path_length": 4, "num_nodes": 17}


CHANGED = {
    "layers that fill the memory": (
        "n_layer",
        10**9,
        r"asks for 1,000,000,000 layers, and the weights hold 28 tensors",
    ),
    "fewer layers": ("n_layer", 1, r"no place for 11 tensors of the weights, such as transformer\.h\.1\.attn"),
    "more layers": ("n_layer", 3, r".*12 tensors that config\.json asks for are missing"),
    "no number of layers": ("n_layer", "two", r"config\.json is damaged \(Validation error for field 'n_layer'"),
    "heads that do not divide": (
        "n_head",
        3,
        r"config\.json or the weights is damaged \(`embed_dim` must be divisible",
    ),
    "another width": ("n_embd", 32, r"config\.json or the weights is damaged"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_config_that_is_not_the_weights(case, tokenizer, tmp_path):
    """Catches: a hang; half of the layers loaded in silence; an error that does not say which folder is damaged."""
    name, value, reason = CHANGED[case]
    load_model("gpt2-2x16", tokenizer, 48).save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    config = json.loads((tmp_path / "stock" / "config.json").read_text())
    (tmp_path / "stock" / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(ValueError, match=rf"stock.* {reason}.*; save the model again"):
        load(str(tmp_path / "stock"))


def flip(path):
    """One bit of the last byte, which is a weight's in a file of weights."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


MIXED_UP = {
    "a bit of a weight": ("model.safetensors", flip),
    "a bit of an attached weight": ("objective_modules.safetensors", flip),
    "another epsilon": ("config.json", lambda path: rewrite(path, layer_norm_epsilon=1e-3)),
    "another task": (RUN_FILE, lambda path: path.write_text(path.read_text().replace('"degree": 3', '"degree": 2'))),
    "another order": (RUN_FILE, lambda path: path.write_text(path.read_text().replace("forward", "reversed"))),
    "settings that are gone": ("generation_config.json", lambda path: path.unlink()),
    "a chat template that is gone": ("chat_template.jinja", lambda path: path.unlink()),
}


@pytest.mark.parametrize("case", MIXED_UP)
def test_what_no_reader_sees(case, save, tokenizer, tmp_path):
    """Catches: a silent other model: each of these folders can be read, and is not what was saved."""
    name, change = MIXED_UP[case]
    tokenizer.chat_template = "{{ messages }}"
    save(find_objective("future_bag").from_tokenizer(tokenizer), tmp_path / "run")
    load(str(tmp_path / "run"))
    change(tmp_path / "run" / name)
    with pytest.raises(ValueError, match=rf"run: {name}.*not as saved with nt_failures\.json.*remove 'sha256' from"):
        load(str(tmp_path / "run"))
    described = json.loads((tmp_path / "run" / RUN_FILE).read_text())
    del described["sha256"]
    (tmp_path / "run" / RUN_FILE).write_text(json.dumps(described))
    load(str(tmp_path / "run"))


@pytest.mark.parametrize("sums", [None, [], {}, {"config.json": "0"}])
def test_sums_that_are_none(sums, save, tokenizer, tmp_path):
    """Catches: damaged sums taken for none."""
    save(NextToken.from_tokenizer(tokenizer), tmp_path / "run")
    rewrite(tmp_path / "run" / RUN_FILE, sha256=sums)
    with pytest.raises(ValueError, match=r"run: nt_failures\.json is damaged \(its sha256 are no sums of files"):
        load(str(tmp_path / "run"))


def test_an_unknown_entry(save, tokenizer, tmp_path):
    """Catches: a flipped bit in the word `task` or `sha256`, after which there is none."""
    save(NextToken.from_tokenizer(tokenizer), tmp_path / "run")
    text = (tmp_path / "run" / RUN_FILE).read_text()
    for word, other in (("sha256", "sha257"), ('"task": {', '"tasc": {')):
        (tmp_path / "run" / RUN_FILE).write_text(text.replace(word, other))
        with pytest.raises(
            ValueError, match=r"run: nt_failures\.json is damaged \(it has an unknown entry '(sha257|tasc)'"
        ):
            load(str(tmp_path / "run"))


def test_an_interrupted_run_names_its_newest_checkpoint(save, tokenizer, tmp_path):
    """Catches: no word of the checkpoints beside which a run has no model yet; the last by name, 9 before 10."""
    for step in (9, 10):
        save(NextToken.from_tokenizer(tokenizer), tmp_path / "run" / f"checkpoint-{step}")
    (tmp_path / "run" / "checkpoint-11").mkdir()
    said = r"run holds no model: .* finish it with --resume, or give its checkpoint (.*run.checkpoint-10)\.$"
    with pytest.raises(ValueError, match=said) as refused:
        load(str(tmp_path / "run"))
    load(re.search(said, str(refused.value))[1])
