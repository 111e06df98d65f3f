"""The card: what a reader sees, what a machine reads, and that its snippet does what it says."""

import ast
import dataclasses
import inspect
import json
import re
import runpy
import shutil
import subprocess
import sys

import checkpoints
import datasets
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from planted import AnswersAlone, CleverHans
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, pipeline

import nt_failures
from nt_failures.data.tokenizer import encode_rows
from nt_failures.diagnosis import diagnose, report
from nt_failures.evaluation.metrics import Accuracies
from nt_failures.experiments import command_line, run
from nt_failures.hub import card
from nt_failures.hub.card import model_card
from nt_failures.hub.card_data import PublishedModel, base_model, metadata
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import NextToken, Teacherless
from nt_failures.tasks import TASKS, find_task
from nt_failures.tasks.addition import Addition
from nt_failures.tasks.path_star import PathStar

TASK, NEXT_TOKEN = PathStar(2, 4, 10), NextToken()
KNOWN = {"versions": {"nt_failures": "1"}, "hardware": {"device": "CPU", "machine": "m", "threads": 1}}


def model_of(objective=NEXT_TOKEN, task=TASK, name="m", **results):
    """A model of which no more is known than where it was trained, and these results."""
    return PublishedModel(name, "GPT2LMHeadModel", objective, task, RunResults(**KNOWN | results), objective.stock)


def test_what_a_task_is_in_words(monkeypatch):
    """Catches: `Own(degree: int = 2, ...)`, which dataclasses write, as the description of a task."""
    assert card.about(TASK).startswith("find the way from the centre of a star of paths")
    own = dataclasses.dataclass(frozen=True)(type("Own", (PathStar,), {"__module__": __name__}))()
    monkeypatch.setattr(sys.modules[__name__], "__doc__", None)
    assert card.about(own) == "a task of its author's own."


def blocks(text, language):
    return [t.content for t in MarkdownIt().parse(text) if t.type == "fence" and t.info == language]


@pytest.fixture
def read(finished):
    """`read(objective, order)`: folder, card and results of a finished run."""

    def make(*kind):
        folder = finished(*kind)
        return folder, ModelCard.load(folder / "README.md"), json.loads((folder / "results.json").read_text())

    return make


KINDS = [("next_token", "forward"), ("next_token", "reversed"), ("teacherless", "forward"), ("hybrid", "forward")]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_metric_comes_back_from_the_card(read, kind):
    """Catches: a metric left out, rounded or renamed; a model-index that huggingface_hub reads as something else."""
    _, page, results = read(*kind)
    found = {(r.dataset_split, r.metric_name): r for r in page.data.eval_results}
    left_out = {"runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "problems"}
    assert {name for split, name in found if split == "test" and not name.startswith("cheat/")} == (
        set(results["metrics"]) - left_out
    )
    for (split, name), result in found.items():
        if split == "test" and name in results["metrics"]:
            assert result.metric_value == results["metrics"][name]
        assert result.dataset_type == "nt_failures/pathstar"
        assert result.dataset_config == "deg2-path4-nodes10"
        assert result.dataset_args == {"degree": 2, "path_length": 4, "num_nodes": 10, "seed": 0, "overlap": "forbid"}
    assert found["test", "free/exact"].metric_type == "exact_match"
    assert found["test", "free/exact"].metric_args["n"] == 40
    assert found["test", "forced/position_2"].metric_type == "accuracy"
    decision = results["diagnosis"]["decision_token"]
    assert found["train", "decision"].metric_value == decision["train_accuracy"]
    cheat = results["diagnosis"]["clever_hans"]
    assert (("test", "cheat/follow_rate") in found) == (cheat is not None)


def test_what_was_not_measured_is_said():
    """Catches: a card that needs forced shares, or has a cheat of answers alone."""
    found = diagnose(AnswersAlone(CleverHans(TASK)), TASK, TASK.block(0, "test", 0, rows=50))
    metrics = {"free/exact": found["forced_vs_free"]["exact"]}
    page = model_card(model_of(n=50, rows=50, metrics=metrics, diagnosis=found))
    assert "## Verdict: not solved" in page.text
    assert "- forced not measured: it is not shown." in page.text
    assert "- clever\\_hans not measured: it is not shown." in page.text
    names = [result.metric_name for result in page.data.eval_results]
    assert names == ["free/exact"]


def test_a_figure_of_ones_own_is_no_share():
    """Catches: a card that dies of 37 wrong paths, or gives them an interval."""
    results = {"n": 50, "metrics": {"wrong_paths": 37.0, "free/exact": 0.26}}
    found = {result.metric_name: result for result in metadata(model_of(**results)).eval_results}
    assert (found["wrong_paths"].metric_value, found["wrong_paths"].metric_args) == (37.0, None)
    assert found["wrong_paths"].metric_type == "wrong_paths"
    assert found["free/exact"].metric_args["n"] == 50


def test_a_position_that_some_answers_lack_has_an_n_of_its_own():
    """Catches: an interval of all problems for a position that four of them have; a task without decision, of which
    no card can be written."""
    metrics = {"free/exact": 0.5, "free/position_1": 0.5, "free/position_2": 0.5, "n/position_2": 4, "problems": 50}
    diagnosis = {"verdict": {"name": "undertrained", "text": "t", "rule": "r"}}
    diagnosis |= {"clever_hans": None, "decision_token": None}
    run = model_of(n=50, rows=60, metrics=metrics, diagnosis=diagnosis)
    found = {result.metric_name: result.metric_args for result in metadata(run).eval_results}
    assert {name: args["n"] for name, args in found.items()} == {
        "free/exact": 50,
        "free/position_1": 50,
        "free/position_2": 4,
    }
    assert found["free/position_2"]["interval_95"] == pytest.approx([0.1500, 0.8500], abs=1e-4)


def test_figures_that_are_no_plain_shares():
    """Catches: Wilson's interval about creativity, which counts different answers and depends on how many were asked
    for; 19,999 of 20,000 written as 1."""
    metrics = {"free/exact": 19_999 / 20_000, "free/unseen": 0.5, "free/creativity": 0.25, "loss": 12.34567}
    run = model_of(n=20_000, rows=20_000, metrics=metrics)
    found = {result.metric_name: result.metric_args for result in metadata(run).eval_results}
    assert (found["free/unseen"]["n"], found["free/creativity"]) == (20_000, None)
    text = str(model_card(run))
    assert r"| free/exact | 0.9999 |" in text
    assert r"| loss | 12.35 |" in text


@pytest.mark.parametrize(
    ("task", "measured", "n"),
    [
        (Addition(3), {"n": 19, "chance": 0.53}, 19),
        (Addition(3), None, None),  # nobody has counted
        (PathStar((2, 3), (2, 4), 20), {"n": 30, "chance": 0.4}, 30),
        (TASK, {"n": 20, "chance": 0.5}, 100),  # a diagnosis of fewer rows than the metrics
        (TASK, None, 100),
    ],
)
def test_the_decision_has_the_n_of_the_rows_that_decide(task, measured, n):
    """Catches: the 19 of 100 sums that decide anything counted as 100, and an interval less than half as wide as it
    is; 100 graphs that all decide counted as the 20 that were diagnosed."""
    diagnosis = {"verdict": {"name": "undertrained", "text": "t", "rule": "r"}, "clever_hans": None}
    diagnosis = None if measured is None else diagnosis | {"decision_token": measured}
    run = model_of(task=task, n=100, rows=100, metrics={"free/exact": 0.5, "decision": 0.5}, diagnosis=diagnosis)
    (found,) = (result for result in metadata(run).eval_results if result.metric_name == "decision")
    assert (found.metric_args or {}).get("n") == n
    if n == 19:  # by hand: z^2 / n = 0.2022, so the half width is 1.96 sqrt(0.25 / 19 + 0.2022 / 76) / 1.2022
        assert found.metric_args["interval_95"] == pytest.approx([0.2950, 0.7050], abs=1e-4)


def test_the_head_says_what_the_model_is(read):
    """Catches: a pipeline promised that does not decode the model; tags or data that are missing."""
    _, stock, _ = read("next_token", "forward")
    _, own, _ = read("teacherless", "forward")
    assert (stock.data.pipeline_tag, stock.data.library_name, stock.data.license) == (
        "text-generation",
        "transformers",
        "apache-2.0",
    )
    assert {"nt_failures", "path-star", "next_token", "forward-order"} <= set(stock.data.tags)
    assert stock.data.datasets == ["nt_failures/pathstar"]
    assert (own.data.pipeline_tag, own.data.library_name) == (None, "nt_failures")
    assert "teacherless" in own.data.tags


def test_the_page_shows_what_was_found(read):
    """Catches: a card without verdict, rule, intervals, findings, budget or one of its figures."""
    folder, page, results = read("next_token", "forward")
    shown = "".join(re.findall(r">([^<]+)<", MarkdownIt("commonmark").enable("table").render(page.text)))
    verdict = results["diagnosis"]["verdict"]
    assert f"Verdict: {verdict['name']}" in shown
    accuracies = Accuracies.from_names(results["metrics"], 40, results["rows"])
    table, caption = report.position_table(accuracies, 2, 0.5, TASK.words).rsplit("\n", 1)
    assert blocks(page.text, "")[0].rstrip() == table
    assert caption in shown
    assert caption.startswith(
        "n = 40 different held-out graphs, 95 % intervals in brackets, chance at the decision 50.0 %"
    )
    assert "4 steps, 32 examples" in shown
    assert f"torch {torch.__version__}" in shown
    for name in ("forced_vs_free.png", "graph.png", "learning.png"):
        assert f"]({name})" in page.text
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert page.text.count("\n- ") >= 5


def test_the_recipe_repeats_the_run(read, tmp_path):
    """Catches: a recipe that the script refuses, or that is another run."""
    folder, page, results = read("teacherless", "forward")
    (shown,) = blocks(page.text, "yaml")
    assert yaml.safe_load(shown) == yaml.safe_load((folder / "recipe.yaml").read_text())
    again = command_line.parse([str(folder / "recipe.yaml"), "--disable_tqdm", "true"]).to_dict()
    assert json.loads(json.dumps(again)) == results["arguments"]


def test_the_command_of_a_card_repeats_the_run(read, monkeypatch, tmp_path):
    """Catches: a command that runs in no folder, or a recipe of another model."""
    folder, page, _ = read("next_token", "forward")
    (typed,) = (line for text in blocks(page.text, "bash") for line in text.splitlines() if "recipe.yaml" in line)
    words = typed.split()
    assert words[:4] == ["accelerate", "launch", *run.MODULE.split()]
    (tmp_path / "download").mkdir()
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path / "download")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "download")
    run.main(words[4:])
    (made,) = (tmp_path / "download" / "outputs").iterdir()
    assert (made / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_task_of_ones_own_has_a_source_of_its_own(monkeypatch):
    """Catches: the paper named as the source of a task that it does not have."""
    own = type("Own", (PathStar,), {"__module__": __name__, "citation": "Me, 2026"})(2, 4, 10)
    text = model_card(model_of(task=own)).text
    assert "- The task: Me, 2026." in text
    assert "The task and the failure" not in text
    monkeypatch.setattr(type(own), "citation", "")
    assert "The task" not in model_card(model_of(task=own)).text.split("## Sources")[1]
    assert "The task and the failure" in model_card(model_of()).text


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("sort", "2310.16028"),
        ("hops", "2512.17351"),
        ("siblings", "2504.15266"),
        ("tree_star", "2503.10542"),
        ("unequal_star", "2505.05755"),
        ("addition", "2403.06963, section F.4"),
        ("in_weights_star", "2510.26745"),
        ("countdown", "2410.14157"),
    ],
)
def test_a_task_of_ours_has_the_source_of_its_docstring(name, source):
    """Catches: the path-star paper named as the source of a task that is another paper's."""
    task = find_task(name)()
    text = model_card(model_of(task=task)).text.split("## Sources")[1]
    assert "\n- The failure: [The Pitfalls" in text
    (line,) = (line for line in text.splitlines() if line.startswith("- The task: "))
    assert f"arXiv {source}" in line
    said = inspect.getdoc(inspect.getmodule(type(task))) + inspect.getdoc(type(task))
    assert f"arXiv {source}" in said


def test_every_task_of_ours_names_a_source():
    """Catches: a card of a new task that names none."""
    assert [name for name, task in TASKS.items() if not task.citation] == ["path_star"]


def outside_in(self, ids_BT, target_BT=None):
    """The last token first, and the others behind it: an order of writing that stock `generate` does not know."""
    return torch.cat([ids_BT[:, 1:], ids_BT[:, :1]], dim=1)


def test_a_pipeline_is_promised_where_it_was_seen_to_answer(tiny_model, tokenizer, task):
    """Catches: an own objective with another writing order whose card says that stock transformers answers."""
    model = tiny_model("gpt2", spread=0.5)
    for order in ("forward", "reversed"):
        same = type("Same", (NextToken,), {"__module__": __name__})(order=order, pad_token_id=tokenizer.pad_token_id)
        assert card.answers_as_stock(model, tokenizer, same, task)
    other = type("Other", (NextToken,), {"__module__": __name__, "reorder": outside_in})()
    assert other.stock
    assert not card.answers_as_stock(model, tokenizer, other, task)
    assert not card.answers_as_stock(model, tokenizer, other, None)
    text = str(model_card(dataclasses.replace(model_of(other), stock=False)))
    assert "library_name: nt_failures" in text
    assert "With `nt_failures`, which knows how the model decodes" in text


def test_a_reversed_answer_of_any_length_is_shown_without_its_ends():
    """Catches: `. . 32 6 12`, which reads as no answer, as the ends that were written last are shown first."""
    (code,) = blocks(str(model_card(model_of(NextToken(order="reversed", end_token_id=7)))), "python")
    shown = re.search(r"decode\((written.*)\)\)  # it writes from the end", code)[1]
    assert eval(shown, {"written": torch.tensor([5, 3, 4, 7, 7])}).tolist() == [4, 3, 5]


def expected(folder):
    """What our own decoding answers to the prompt of the snippet."""
    loaded = nt_failures.load(str(folder))
    prompt, completion = card.instance(TASK)
    ids = torch.tensor(encode_rows(loaded.tokenizer, [prompt], [completion])["prefix_ids"])
    return loaded.tokenizer.decode(loaded.objective.decode(loaded.model, ids, 4)[0])


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_snippet_runs_and_answers_as_we_decode(read, kind, monkeypatch, capsys, tmp_path):
    """Catches: a snippet with an error, another prompt, a reversed answer, or too many tokens."""
    folder, page, _ = read(*kind)
    (code,) = blocks(page.text, "python")
    (tmp_path / "snippet.py").write_text(code)
    monkeypatch.chdir(folder)
    capsys.readouterr()  # of the training, where this test is the first to ask for it
    runpy.run_path(str(tmp_path / "snippet.py"))
    assert capsys.readouterr().out == expected(folder) + "\n"
    assert f"# the right answer: {card.instance(TASK)[1]}" in code
    assert ("import nt_failures" in code) == (kind[0] == "teacherless")


@pytest.fixture
def adds_bos(tmp_path):
    """Folder of an untrained Llama that answers each prompt with other tokens, its tokenizer begins texts with BOS."""
    tokenizer = checkpoints.byte_level_bpe()
    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bos_id)])
    tokenizer.backend_tokenizer.post_processor = processor
    folder = checkpoints.write(tmp_path / "base", "llama", tokenizer, initializer_range=1.0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[bos_id] = 0  # the end token, too, which `generate` forbids inside an answer
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_the_snippet_asks_as_in_training_where_a_tokenizer_adds_bos(order, adds_bos, monkeypatch, capsys, tmp_path):
    """Catches: a prompt that begins with a token that no training row had, as Llama's and Gemma's tokenizers put it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    argv = [checkpoints.RECIPE, *checkpoints.SMALL, "--model", adds_bos, "--order", order, "--learning_rate", "0"]
    checkpoints.train([*argv, "--output_dir", str(tmp_path / "run")])
    (code,) = blocks(ModelCard.load(tmp_path / "run" / "README.md").text, "python")
    loaded = nt_failures.load(str(tmp_path / "run"))
    prompt, _ = card.instance(checkpoints.TASK)
    with_bos, without = (loaded.tokenizer(prompt, add_special_tokens=add).input_ids for add in (True, False))
    assert with_bos == [loaded.tokenizer.bos_token_id, *without]
    length = loaded.model.generation_config.max_new_tokens
    answers = [loaded.objective.decode(loaded.model, torch.tensor([ids]), length)[0] for ids in (with_bos, without)]
    assert answers[0].tolist() != answers[1].tolist()
    monkeypatch.chdir(tmp_path / "run")
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == loaded.tokenizer.decode(answers[1]) + "\n"


def test_the_card_says_how_to_ask_and_how_to_read(read):
    """Catches: labels that the tokenizer refuses, and an answer that looks wrong because it is printed otherwise."""
    _, page, _ = read("next_token", "forward")
    use = page.text[page.text.index("## Use") : page.text.index("## Training")]
    right = card.instance(TASK)[1]
    assert "Labels of a prompt are `0` to `9`" in use
    assert "raises `Missing [UNK] token`" in use
    assert f"`{right.replace(',', ' ')}` is the same answer as `{right}`" in use
    assert "parallel" not in use


def test_the_parallel_decoding_runs_as_the_card_says(read, monkeypatch, tmp_path):
    """Catches: a hybrid card with `parallel` figures and no way to get at such an answer, or one with an error."""
    folder, page, _ = read("hybrid", "forward")
    load, decode = re.search(r"`(run = .*?)`, then `(.*)`\.", page.text).groups()
    monkeypatch.chdir(folder)
    names = {"nt_failures": nt_failures, "name": "."}
    (names["prompt"], right), run = card.instance(TASK), nt_failures.load(str(folder))
    ids = torch.tensor(encode_rows(run.tokenizer, [names["prompt"]], [right])["prefix_ids"])
    (tmp_path / "typed.py").write_text(f"{load}\nanswer = {decode}\n")
    answer = runpy.run_path(str(tmp_path / "typed.py"), init_globals=names)["answer"]
    assert answer == run.tokenizer.decode(run.objective.decode(run.model, ids, 4, decoding="parallel")[0])


def test_code_spans_cannot_be_closed():
    """Catches: a label with backticks that ends the code span and becomes Markdown."""
    assert card.code("a`<b>``") == "``` a`<b>`` ```"
    assert MarkdownIt().render(card.code("a`<b>``")) == "<p><code>a`&lt;b&gt;``</code></p>\n"


def test_a_next_token_model_needs_no_package_of_ours(read):
    """Catches: a checkpoint or a snippet that works only where nt_failures can be imported."""
    folder, page, _ = read("next_token", "forward")
    (code,) = blocks(page.text, "python")
    blocked = "import sys; sys.modules['nt_failures'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", blocked], cwd=folder, capture_output=True, text=True)
    assert done.stdout == expected(folder) + "\n", done.stderr


def test_a_pipeline_answers_every_prompt_as_we_decode(read):
    """Catches: generation settings that stop late, stop early, or sample."""
    folder, _, _ = read("next_token", "forward")
    columns = TASK.block(0, "test", 0, rows=30)
    texts = {name: text.to_list() for name, text in TASK.render(columns).items()}
    loaded = nt_failures.load(str(folder))
    generate = pipeline("text-generation", model=str(folder))
    as_shown = {"add_special_tokens": False, "return_full_text": False}
    answers = [a[0]["generated_text"] for a in generate(texts["prompt"], **as_shown, batch_size=8)]
    ids = torch.tensor(encode_rows(loaded.tokenizer, texts["prompt"], texts["completion"])["prefix_ids"])
    assert answers == loaded.tokenizer.batch_decode(loaded.objective.decode(loaded.model, ids, 4))


NASTY = 'a|b](javascript:x) <script>alert(1)</script> "q": #- ---\n---\nlicense: mit\n```'


def test_names_are_shown_and_never_interpreted():
    """Catches: a name that makes a link, a tag, a heading of its own or a field of the YAML head."""
    results = {
        "metrics": {"free/exact": 0.5, "loss": float("nan")},
        "n": 10,
        "training_arguments": {"run_name": NASTY},
    }
    page = model_card(model_of(name=NASTY, **results), tags=[NASTY])
    again = ModelCard(str(page))
    assert again.data.license == "apache-2.0"
    assert again.data.model_name == " ".join(NASTY.split())
    assert again.data.tags[-1] == NASTY
    assert [r.metric_value for r in again.data.eval_results] == [0.5, "nan"]
    shown = MarkdownIt("commonmark", {"html": True}).render(again.text)
    assert "<script" not in shown
    assert 'href="javascript' not in shown
    (settings,) = blocks(again.text, "yaml")
    assert yaml.safe_load(settings)["training"]["run_name"] == NASTY


def test_nothing_is_said_that_is_not_known():
    """Catches: a crash without results, or a number, verdict, budget or file that nobody measured or wrote."""
    page = model_card(model_of(Teacherless(dummy_token_id=1), None))
    assert page.data.eval_results is None
    assert page.data.datasets is None
    for word in ("Verdict", "Accuracy", "budget", "recipe.yaml", ".png", "%"):
        assert word not in page.text
    assert 'prompt = input("prompt: ")' in page.text


def test_decision_only_training_is_not_sold_as_a_solver():
    """Catches: a model trained at one position whose card lets expect whole answers."""
    text = model_card(model_of(NextToken(positions=(2,)))).text
    assert "Only position 2 of the answer was trained: judge it by what is right there" in text


def test_base_models(tmp_path, monkeypatch):
    """Catches: a size or a local folder published as the id of a base model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    given = ["EleutherAI/pythia-70m", "gpt2", "gpt2-4x64", "outputs/run", str(tmp_path), "/not/here", "a/b/c", None, ""]
    assert [base_model(name) for name in given] == ["EleutherAI/pythia-70m", "gpt2", *[None] * 7]
    arguments = {"data": {"dataset_seed": 0, "overlap": "forbid"}, "model": {"model": "gpt2"}}
    data = metadata(model_of(arguments=arguments))
    assert (data.base_model, data.license) == ("gpt2", None)


def test_a_long_curve_is_cut_evenly():
    """Catches: a table of a thousand rows, or one without the last evaluation."""
    curve = [{"step": 10 * i, "loss": 1.0, "free/exact": 0.5} for i in range(1, 101)]
    text = model_card(model_of(learning_curve=curve)).text
    steps = [int(s.replace(",", "")) for s in re.findall(r"^\| ([\d,]+) \|", text, re.M)]
    assert (len(steps), steps[0], steps[-1]) == (12, 10, 1000)
    assert "12 of 100 evaluations are shown" in text
    assert len(re.findall(r"^\| \d", model_card(model_of(learning_curve=curve[:3])).text, re.M)) == 3
    assert len(re.findall(r"^\| \d", model_card(model_of(learning_curve=curve[:1])).text, re.M)) == 1


def test_any_prompt_makes_a_snippet():
    """Catches: a snippet that is no Python, as the prompt has quotes or several lines, or the answer has."""
    asked = {"prompt": 'Say "a\\b":\n', "completion": "a\nb"}
    code = re.search(r"```python\n(.*?)```", str(model_card(model_of(instance=asked))), re.DOTALL)[1]
    texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert asked["prompt"] in texts
