"""nt_failures/objectives/MULTI_TOKEN_FOR_TRL.md: its blocks run one after the other and do what the page says."""

import re
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import nt_failures as ntf
from nt_failures.objectives import drafting

PAGE = (Path(ntf.__file__).parent / "objectives" / "MULTI_TOKEN_FOR_TRL.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page's blocks leave behind, run in a folder that holds the Llama it speaks of."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **small, vocab_size=15, pad_token_id=14))
    ntf.SequentialHeads(form="transformers").attach(llama)
    llama.save_pretrained(folder / "outputs" / "llama")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
        for block in BLOCKS:
            exec(compile(block, "MULTI_TOKEN_FOR_TRL.md", "exec"), names)
        names["llama_greedy"] = AutoModelForCausalLM.from_pretrained("outputs/llama").generate(
            **names["prompt"], max_new_tokens=8, do_sample=False
        )
    return folder, names


def test_it_trains_and_drafts_as_it_says(page):
    """Catches: a block that no longer runs; other tokens than greedy's; an acceptance rate that the page invents."""
    folder, names = page
    assert names["metrics"]["eval_free/exact"] == 1 > names["untrained"]["eval_free/exact"]
    assert torch.equal(names["drafted"], names["greedy"])
    assert names["tokenizer"].decode(names["greedy"][0, 4:]) == "5 8 1 4 7 0 3 6"
    assert f"# {names['rate']:.2f} here, below 0.30 with untrained layers" in PAGE
    untrained = AutoModelForCausalLM.from_pretrained(folder / "outputs" / "counting")
    drafting.attach_layers(untrained, 1)
    untrained.save_pretrained(folder / "untrained")
    untrained = AutoModelForCausalLM.from_pretrained(folder / "untrained")
    assert ntf.acceptance_rate(untrained, names["rows"]["prefix_ids"], new_tokens=8) < 0.3
    assert torch.equal(names["llama_drafted"], names["llama_greedy"])


def test_it_logs_what_it_says(page):
    """Catches: a part of the loss that is named otherwise, weighed in the log, or missing there; a loss that grows with
    the steps of accumulation."""
    _, names = page
    for entry in (e for e in names["trainer"].state.log_history if "loss" in e):
        expected = entry["loss/next_token"] + 0.3 * entry["loss/depth_1"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-3)
    (first, _) = (e for e in names["sft"].state.log_history if "loss" in e)
    assert first["loss"] == pytest.approx(first["loss/next_token"] + 0.3 * first["loss/depth_1"], rel=1e-3)


def test_each_trainer_saves_layers_to_draft_with(page):
    """Catches: a bridge whose layers are not trained, or not saved where transformers looks; a second trainer that
    begins with new ones."""
    folder, names = page
    for trainer in ("counting", "sft", "stock"):
        saved = load_file(folder / "outputs" / trainer / "model.safetensors")
        assert {name.partition(".mtp_block.")[0] for name in saved if "mtp_block" in name} == {"mtp.layers.0"}
        loaded = AutoModelForCausalLM.from_pretrained(folder / "outputs" / trainer)
        assert loaded.config.num_mtp_layers == 1
        prompt = names["prompt"]["input_ids"]
        drafted = loaded.generate(prompt, max_new_tokens=4, do_sample=False, use_mtp=True)
        assert torch.equal(drafted, loaded.generate(prompt, max_new_tokens=4, do_sample=False))
    for name, tensor in names["further"].model.mtp.state_dict().items():
        assert torch.equal(tensor, names["trainer"].model.mtp.state_dict()[name]), name


def test_sft_trains_on_the_objective_s_loss(page):
    """Catches: TRL's batches read otherwise than our rows, with the end token that TRL adds."""
    _, names = page
    sft, objective, rows = names["sft"], names["objective"], names["rows"]
    batch = sft.data_collator([sft.train_dataset[i] for i in range(4)])
    ended = [{"prefix_ids": row["prefix_ids"], "target_ids": [*row["target_ids"], 14]} for row in rows.to_list()[:4]]
    with torch.no_grad():
        found = sft.compute_loss(sft.model.eval(), dict(batch))
        loss = objective.loss(sft.model, objective.collate(ended))
    torch.testing.assert_close(found, loss.sum / loss.count)


FITTING = [ntf.MultiTokenHeads, ntf.SequentialHeads, ntf.TokenOrder, ntf.FutureBag, ntf.NextLatent, ntf.LseMtp]


@pytest.mark.parametrize("kind", FITTING)
def test_an_objective_that_fits_has_its_own_loss(kind, page, tiny_model):
    """Catches: an objective that the class takes, whose loss reads TRL's rows otherwise where prompts differ in length,
    which TRL fills up on the right alone."""
    folder, names = page
    rows = [{"prefix_ids": [1, 2, 3], "target_ids": [7, 8, 9]}, {"prefix_ids": [5], "target_ids": [4, 8, 3, 14]}]
    model, objective = tiny_model("llama"), kind(pad_token_id=14)
    args = names["SFTConfig"](str(folder / "fits"), report_to=[], use_cpu=True, bf16=False)
    data = {"train_dataset": names["data"], "processing_class": names["tokenizer"]}
    sft = names["ObjectiveSFTTrainer"](model, args, objective=objective, **data)
    batch = sft.data_collator(
        [
            {
                "input_ids": row["prefix_ids"] + row["target_ids"],
                "labels": [-100] * len(row["prefix_ids"]) + row["target_ids"],
            }
            for row in rows
        ]
    )
    assert batch["labels"].tolist()[1] == [-100, 4, 8, 3, 14, -100]
    with torch.no_grad():
        loss = objective.loss(model.eval(), objective.collate(rows))
        torch.testing.assert_close(sft.compute_loss(model, dict(batch)), loss.sum / loss.count)


@pytest.mark.parametrize(
    ("objective", "more"),
    [
        (ntf.SequentialHeads(order="reversed"), {}),
        (ntf.FutureBag(states="first"), {}),
        (ntf.LseMtp(predicts="row"), {}),
        (ntf.FutureSummary(), {}),
        (ntf.JointMultiToken(), {}),  # the stock model would not decode as trained
        (ntf.Registers(), {}),
        (ntf.TokenOrder(), {"peft_config": object()}),
    ],
)
def test_what_does_not_fit_is_refused(objective, more, page, tiny_model):
    """Catches: an objective that trains on something else than its loss inside TRL, or whose layers are frozen."""
    _, names = page
    with pytest.raises(ValueError, match="does not fit TRL's batches; take ObjectiveTrainer"):
        names["ObjectiveSFTTrainer"](tiny_model("llama"), objective=objective, **more)


def test_heads_are_dropped_as_it_says(page):
    """Catches: heads that stay in a checkpoint, or a stock model that is changed by leaving them out."""
    folder, names = page
    assert "del sft.model.objective_modules" in PAGE
    heads = ntf.MultiTokenHeads.from_tokenizer(names["tokenizer"], heads=2)
    model = AutoModelForCausalLM.from_pretrained(folder / "outputs" / "counting")
    args = names["SFTConfig"](str(folder / "heads"), max_steps=1, report_to=[], use_cpu=True, bf16=False)
    data = {"train_dataset": names["data"], "processing_class": names["tokenizer"]}
    sft = names["ObjectiveSFTTrainer"](model, args, objective=heads, **data)
    sft.train()
    del sft.model.objective_modules
    sft.save_model()
    _, report = AutoModelForCausalLM.from_pretrained(folder / "heads", output_loading_info=True)
    assert {*report["unexpected_keys"], *report["missing_keys"]} == set()
