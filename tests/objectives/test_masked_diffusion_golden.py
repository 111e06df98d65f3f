"""`masked_diffusion` against numbers made by running the code of HKUNLP/diffusion-vs-ar (arXiv 2410.14157)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import MaskedDiffusion, masked_diffusion

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "masked_diffusion.npz")
MASK = int(GOLDEN["mask_id"])
VARIANTS = {
    "plain": {"alpha": 1.0, "gamma": 0.0, "time_weight": "none"},
    "linear": {"alpha": 1.0, "gamma": 0.0, "time_weight": "linear"},
    "original": {"alpha": 1.0, "gamma": 0.0, "time_weight": "original"},
    "path_recipe": {},
    "focal": {"alpha": 0.25, "gamma": 1.0, "time_weight": "none"},
    "focal_gamma2_original": {"alpha": 0.25, "gamma": 2.0, "time_weight": "original"},
    "focal_alpha1": {"alpha": 1.0, "gamma": 0.5, "time_weight": "none"},
}
TRACES = {
    "deterministic_linear_3": {"noise": 0.0},
    "deterministic_linear_5": {"noise": 0.0},
    "deterministic_linear_8": {"noise": 0.0},
    "deterministic_cosine_6": {"noise": 0.0, "unmasking": "cosine"},
    "stochastic_linear_6": {},
    "random_5": {"unmasking": "random"},
    "mask_predicted_5": {"noise": 0.0},
}


def tensor(name):
    values = torch.from_numpy(GOLDEN[name])
    return values.long() if values.dtype == torch.int16 else values


class Stored(torch.nn.Module):
    """A model whose passes return stored logits (B, S, V), one after the other; it notes what it was shown."""

    def __init__(self, passes):
        super().__init__()
        self.dtype, self.passes, self.shown = passes[0].dtype, list(passes), []
        self.config = type("Config", (), {"max_position_embeddings": 64})

    def forward(self, input_ids, attention_mask, position_ids, use_cache, logits_to_keep):
        assert attention_mask.eq(0).all()  # added to the scores: everyone sees everyone
        assert position_ids.eq(torch.arange(input_ids.shape[1])).all()
        self.shown.append(input_ids)
        return type("Output", (), {"logits": self.passes.pop(0)[:, -logits_to_keep:]})


def objective(**options):
    return MaskedDiffusion(**{"dummy_token_id": MASK, **options})


def rows(ids_BS, prompt):
    return [{"prefix_ids": row[:prompt], "target_ids": row[prompt:]} for row in ids_BS.tolist()]


@pytest.fixture
def batch(monkeypatch):
    """`batch(options)`: the golden's rows, collated with its draws."""
    ids, prompt = tensor("a/ids"), int(GOLDEN["a/prompt_length"])
    monkeypatch.setattr(torch, "randint", lambda steps, shape: tensor("a/t"))
    monkeypatch.setattr(torch, "rand", lambda shape: tensor("a/u")[:, prompt:])
    return lambda **options: objective(**options).collate(rows(ids, prompt))


def test_layout(batch):
    """Catches: a rate t / steps, one time for the whole batch, labels where nothing is hidden, prompt tokens hidden."""
    ids, masked = tensor("a/ids"), tensor("a/masked").bool()
    found = batch(steps=int(GOLDEN["a/steps"]))
    assert torch.equal(found["input_ids"], ids.masked_fill(masked, MASK))
    assert torch.equal(found["labels"], ids.where(masked, IGNORE))
    assert torch.equal(found["times"], tensor("a/t"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient(variant, batch):
    """Catches: each token predicted in its own column, a weight without gradient, one rate's weight for all rows, a
    mean over all target tokens, the weight 1 / rate."""
    logits = tensor("a/logits").requires_grad_()
    loss = objective(**VARIANTS[variant]).loss(Stored([logits]), batch(**VARIANTS[variant]))
    mean = loss.sum / loss.count
    mean.backward()
    assert int(loss.count) == int(GOLDEN["a/masked"].sum())
    torch.testing.assert_close(mean, tensor(f"a/{variant}/loss"), rtol=0, atol=1e-9)
    torch.testing.assert_close(logits.grad, tensor(f"a/{variant}/grad_logits"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("trace", TRACES)
def test_decoding_token_for_token(trace, monkeypatch):
    """Catches: tokens that stay once they are filled in, a pass that hides one too many, unshifted logits, noise of
    another sign, hidden tokens chosen with the prompt's among them, probabilities without the left-out ids."""
    name, prompt = f"decode/{trace}", int(GOLDEN["decode/prompt_length"])
    steps = int(GOLDEN[f"{name}/steps"])
    logits = tensor(f"{name}/logits")
    drawn = tensor(f"{name}/u")[..., prompt:]
    monkeypatch.setattr(masked_diffusion, "uniform_numbers", lambda prefix, passes, columns: drawn)
    model = Stored(logits.flip(0))  # stored by time, and time runs down
    decoder = objective(steps=steps, vocabulary=int(GOLDEN["tokenizer_vocabulary"]), **TRACES[trace])
    found = decoder.decode(model, tensor("decode/ids")[:, :prompt], drawn.shape[2])
    assert torch.equal(torch.stack(model.shown), tensor(f"{name}/inputs"))
    assert torch.equal(found, tensor(f"{name}/final")[:, prompt:])


@pytest.mark.parametrize(
    ("time", "sure", "hidden"),
    [
        (1, [-1.0, -0.6, -0.01, -0.01], [True, False, False, False]),
        (2, [-1.0, -0.6, -9.0, -0.01], [False, True, True, False]),
    ],
)
def test_noise_shrinks_with_the_rate(time, sure, hidden):
    """Catches: noise that is not multiplied by time / steps, or by another power of it, or by 1 - time / steps.

    The first column has a Gumbel number of 1, the others of 0: -1 becomes -0.75 at the rate 1/4, -0.5 at 1/2.
    """
    u = torch.tensor([[-1.0, 0.0, 0.0, 0.0]]).exp().neg().exp()
    decoder, real = objective(steps=4, noise=1.0), torch.ones(1, 4, dtype=torch.bool)
    assert decoder._hidden_again(torch.tensor([sure]), real, time, 4, u).tolist() == [hidden]
