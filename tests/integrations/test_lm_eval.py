"""examples/lm_eval in lm-evaluation-harness: the same rows and the same figures as the library's own evaluation."""

import importlib.util
import logging
from pathlib import Path

import lm_eval
import numpy as np
import pytest
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

import nt_failures as ntf
from nt_failures.tasks import described

FOLDER = Path(__file__).parents[2] / "examples" / "lm_eval"
TASK = "pathstar_deg2_path3_nodes10"

# Arms 32 34 6 (goal) and 32 3 19.
DOC = {
    "prompt": "32,3|34,6|3,19|32,34/32,6=",
    "edges": [[32, 3], [34, 6], [3, 19], [32, 34]],
    "source": 32,
    "goal": 6,
    "path": [32, 34, 6],
    "task": described(ntf.PathStar(2, 3, 50)),
}
# The same graph among larger ones.
MIXED = {
    **DOC,
    "edges": [*DOC["edges"], [-1, -1], [-1, -1]],
    "path": [*DOC["path"], -1],
    "task": described(ntf.PathStar(2, (3, 4), 50)),
}


@pytest.fixture
def judge():
    """`process_results` of the folder, as the harness imports it: from a file that is in no package."""
    spec = importlib.util.spec_from_file_location("tasks_utils", FOLDER / "tasks" / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.process_results


@pytest.fixture(scope="module")
def found(trained):
    """What the harness finds for the trained model on the first 100 rows, with a batch that needs no padding."""
    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": trained, "device": "cpu"},
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        batch_size=32,
        limit=100,
        bootstrap_iters=0,
    )


def test_same_figures_as_the_library(found, trained, task):
    """Catches: other rows, another judge, a prompt that is cut or joined otherwise, sampling, an answer of another
    length."""
    loaded = ntf.load(trained)
    columns = {name: column[:100] for name, column in task.block(seed=0, split="test", index=0).items()}
    predicted = ntf.ModelPredictor(loaded.model, loaded.tokenizer, loaded.objective, task).free(columns)
    judged = task.judge(columns, predicted)
    scores = found["results"][TASK]
    assert 0.2 < judged["exact"].mean() < 0.8
    for name in ("exact", "decision", "valid_path"):
        assert scores[f"{name},none"] == pytest.approx(judged[name].mean(), abs=1e-12)
    assert scores["complete,none"] == 1.0
    assert scores["valid_path,none"] <= scores["valid_prefix,none"] <= 1.0
    assert scores["sample_len"] == 100
    assert set(found["higher_is_better"][TASK].values()) == {True}


def test_same_figure_as_the_trainer(found, trained, task, rows, tmp_path):
    """Catches: an evaluation during training, from one forward pass, that the harness does not confirm."""
    args = ntf.ObjectiveTrainingArguments(str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    trainer = ntf.ObjectiveTrainer(
        AutoModelForCausalLM.from_pretrained(trained),
        args,
        objective=ntf.NextToken.from_tokenizer(tokenizer),
        task=task,
        eval_dataset=rows["test"].select(range(100)),
        processing_class=tokenizer,
    )
    assert found["results"][TASK]["exact,none"] == pytest.approx(trainer.evaluate()["eval_free/exact"], abs=1e-12)


def test_rows_are_those_of_the_dataset(found, data):
    """Catches: rows in another order or of another seed, prompts with something before or behind them."""
    samples = sorted(found["samples"][TASK], key=lambda sample: sample["doc_id"])
    assert [sample["doc"]["prompt"] for sample in samples] == data["test"][:100]["prompt"]
    assert [sample["arguments"][0][0] for sample in samples] == data["test"][:100]["prompt"]
    assert [sample["target"] for sample in samples] == data["test"][:100]["completion"]


def test_few_shots():
    """Catches: examples of the test split, or answers that stand apart from their `=`."""
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    task = manager.load([TASK])["tasks"][TASK]
    question = next(iter(task.test_docs()))
    solved = {row["prompt"] + row["completion"] for row in task.fewshot_docs()}
    *examples, prompt = task.fewshot_context(question, num_fewshot=2).split("\n")
    assert prompt == question["prompt"]
    assert len(solved) == 100
    assert len(examples) == 2
    assert set(examples) <= solved


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ("32,34,6", (1.0, 1.0, 1.0, 1.0, 1.0)),
        ("32 34 6 6 6", (1.0, 1.0, 1.0, 1.0, 1.0)),  # cut, as a model without an end token must be
        ("32 3 19", (0.0, 0.0, 1.0, 1.0, 1.0)),
        ("32 3 6", (0.0, 0.0, 0.0, 2 / 3, 1.0)),
        ("32", (0.0, 0.0, 0.0, 1 / 3, 0.0)),
        ("", (0.0, 0.0, 0.0, 0.0, 0.0)),
        ("I think it is 32", (0.0, 0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_scores_by_hand(judge, answer, scores):
    """Catches: a wrong arm that counts as right, nodes behind the path that count as an error, a crash on prose."""
    names = ("exact", "decision", "valid_path", "valid_prefix", "complete")
    assert judge(DOC, [answer]) == dict(zip(names, scores, strict=True))


@pytest.mark.parametrize(
    ("answer", "exact"),
    [("32 34 6 .", 1.0), ("32,34,6 . .", 1.0), ("32 34 6", 1.0), ("32 34 6 6", 0.0), ("32 34", 0.0)],
)
def test_graphs_of_several_sizes_have_an_end(judge, answer, exact):
    """Catches: -1 of a smaller graph taken for nodes, a model that never stops and is right."""
    assert judge(MIXED, [answer])["exact"] == exact


def test_short_answers_are_told(judge, caplog):
    """Catches: figures of 0 without a word for a model whose tokenizer spends several tokens on a node, a word a row,
    or one for a model that ended a short answer itself."""
    with caplog.at_level(logging.WARNING):
        judge(DOC, ["32,34,6"])
        judge(MIXED, ["32 34 . ."])
        assert not caplog.records
        judge(DOC, ["32,3"])
        judge(DOC, ["32"])
        judge(MIXED, ["32 34"])
    told = [record.getMessage() for record in caplog.records]
    assert ["fewer symbols than the right one" in message for message in told] == [True, True]
    assert [message.rpartition(" ")[2] for message in told] == ["max_gen_toks=18", "max_gen_toks=24"]


def test_reversed_targets_are_not_for_the_harness(judge):
    """Catches: a promise that a model of reversed order could be scored: its answer starts at the goal."""
    assert judge(DOC, ["6 34 32"])["exact"] == 0.0
    assert np.isclose(judge(DOC, ["6 34 32"])["decision"], 1.0)
