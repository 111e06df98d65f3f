"""joint_multi_token: the numbers of the only public code, through the objective's own loss and decoding on a GPT-2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import GivenStates
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.objectives import JointMultiToken, auxiliary_modules

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "joint_multi_token.npz")
WIDTH, VOCABULARY = 8, 13
RENAMED = {"gamma": "gamma", "ln_w": "mix.weight", "ln_b": "mix.bias", "qkv": "qkv.weight", "out": "out.weight"}
RENAMED |= {"bias": "bias", "norm": "norm.weight"}
by_case = pytest.mark.parametrize("case", ["eos", "no_eos", "window2"])
"""The end of a row, where it has one, is a last target token here, as it is a last label there."""


class Case:
    """The golden's numbers of one case, the objective, and a float64 GPT-2 with the golden's states and weights."""

    def __init__(self, name):
        self.name = name
        self.prompt = int(self.golden("prompt_length"))
        self.horizon = int(self.golden("horizon"))
        self.ids = self.golden("ids").long()
        self.objective = JointMultiToken(window=self.horizon + 1, weight=float(self.golden("lambda")), pad_token_id=0)
        sizes = {"n_layer": 1, "n_embd": WIDTH, "n_head": int(self.golden("attention_heads")), "n_positions": 16}
        ends = {"bos_token_id": None, "eos_token_id": None}
        config = GPT2Config(**sizes, **ends, vocab_size=VOCABULARY, tie_word_embeddings=False)
        self.model = GPT2LMHeadModel(config).double().eval()
        self.objective.attach(self.model)
        self.model.transformer.ln_f = GivenStates(self.golden("hidden"))
        self.fetch = auxiliary_modules.modules_of(self.model)["fetch"]
        assert self.fetch.gamma.item() == pytest.approx(0.1)  # as the code starts
        with torch.no_grad():
            self.model.lm_head.weight.copy_(self.golden("U"))
            self.model.transformer.wte.weight.copy_(self.golden("embeddings"))
            for name, renamed in RENAMED.items():
                parameter = self.fetch.get_parameter(renamed)
                parameter.copy_(self.golden(f"fetch/{name}").view(parameter.shape))

    def golden(self, name):
        return torch.from_numpy(np.array(GOLDEN[f"{self.name}/{name}"]))

    def close(self, found, name):
        expected = self.golden(name)
        torch.testing.assert_close(found.detach().view(expected.shape), expected, rtol=0, atol=1e-9)

    def batch(self):
        rows = [{"prefix_ids": row[: self.prompt], "target_ids": row[self.prompt :]} for row in self.ids.tolist()]
        return self.objective.collate(rows)


@by_case
def test_loss_and_gradients_are_the_codes_own(case):
    """Catches: plain logits for the next token, a residual in slot 0 or none in the others, states before `=` left
    out, the first target token as a slot's label, a prompt token as a teacher, one mean over all slots' labels."""
    case = Case(case)
    loss = case.objective.loss(case.model, case.batch())
    case.close(loss.sum / loss.count, "total")
    case.close(loss.parts["next_token"] / loss.count, "next_token")
    (loss.sum / loss.count).backward()
    case.close(case.model.transformer.ln_f.states.grad, "grad_hidden")
    case.close(case.model.transformer.wte.weight.grad, "grad_embeddings")
    case.close(case.model.lm_head.weight.grad, "grad_U")
    for name, renamed in RENAMED.items():
        case.close(case.fetch.get_parameter(renamed).grad, f"grad_fetch/{name}")


@by_case
def test_decoding_takes_slot_0(case):
    """Catches: the stock model's logits at inference, later slots at inference, a slot 0 with the next column's
    token."""
    case = Case(case)
    expected = case.golden("inference_logits")
    with case.objective._logits_of_slot_0(case.model):
        case.close(case.model(input_ids=case.ids, use_cache=False).logits, "inference_logits")
    prefix, target = case.ids[:, : case.prompt], case.ids[:, case.prompt :]
    forced = case.objective.decode(case.model, prefix, target.shape[1], shown=target)
    assert torch.equal(forced, expected[:, case.prompt - 1 : -1].argmax(dim=-1))
    assert torch.equal(case.objective.decode(case.model, prefix, 1), case.golden("draft_ids")[:, :1])
    assert not case.objective.stock


def test_a_window_that_is_longer_than_the_row(tiny_model):
    """Catches: a mean over the slots that the row has in place of all of the window, by which the term's weight depends
    on how long the rows beside it are."""
    rows, found, weights = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}], [], {}
    for window in (4, 9):
        objective, model = JointMultiToken(window=window, pad_token_id=14), tiny_model("gpt2")
        objective.attach(model)
        fetch = auxiliary_modules.modules_of(model)["fetch"]
        fetch.load_state_dict(weights, strict=False)
        weights = fetch.state_dict()
        weights.pop("bias")  # 0, for each slot of the window
        with torch.no_grad():
            found.append(float(objective.loss(model, objective.collate(rows)).parts["window"]) * (window - 1))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
