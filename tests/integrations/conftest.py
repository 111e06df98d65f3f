"""Shared by the integration tests: rows of a small named config, and a model that was trained on them for seconds."""

import datasets
import pytest
import torch
from datasets import load_dataset

import nt_failures as ntf
from nt_failures.models.load import load_model, set_answer_length


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Datasets are built into a folder of the tests, not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        yield


@pytest.fixture(scope="session")
def data():
    """The config deg2-path3-nodes10, the size of the fixtures `task` and `tokenizer`: text rows, 6,400 and 200."""
    return load_dataset("nt_failures/pathstar", "deg2-path3-nodes10", num_train=6400, num_test=200)


@pytest.fixture(scope="session")
def rows(data, tokenizer):
    """The same rows, tokenised."""
    return ntf.tokenize(data, tokenizer)


@pytest.fixture(scope="session")
def trained(rows, task, tokenizer, tmp_path_factory):
    """The folder of a next-token model that is right on some rows and wrong on others, saved as examples/train.py
    does."""
    torch.manual_seed(0)
    model = load_model("gpt2-2x32", tokenizer, max_length=18, config_overrides={"initializer_range": 0.1})
    objective = ntf.NextToken.from_tokenizer(tokenizer)
    set_answer_length(model, 3, tokenizer.pad_token_id, tokenizer.eos_token_id)
    args = ntf.ObjectiveTrainingArguments(
        str(tmp_path_factory.mktemp("trained")),
        max_steps=60,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        optimizer="muon",
        muon_learning_rate=0.02,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = ntf.ObjectiveTrainer(
        model,
        args,
        objective=objective,
        task=task,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return args.output_dir
