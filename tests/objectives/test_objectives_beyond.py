"""The objectives of other groups: each loss against a plain loop over rows, written from the paper's equation."""

import copy
import dataclasses
import json

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules, read_objective
from nt_failures.objectives.belief_state import BeliefState
from nt_failures.objectives.decoding import one_pass
from nt_failures.objectives.future_bag import FutureBag
from nt_failures.objectives.joint_multi_token import JointMultiToken
from nt_failures.objectives.losses import cross_entropy, forward_pass, upcoming
from nt_failures.objectives.masked_diffusion import MaskedDiffusion, uniform_numbers
from nt_failures.objectives.multi_token_heads import MultiTokenHeads
from nt_failures.objectives.next_latent import NextLatent
from nt_failures.objectives.registers import Registers
from nt_failures.objectives.token_order import TokenOrder
from nt_failures.objectives.uniform_mask import UniformMask

TOKENS = {"dummy_token_id": 13, "pad_token_id": 14}
VOCABULARY = 15
ROWS = [([1, 2, 3, 4], [7, 8, 9, 5]), ([6, 0], [10, 11, 12])]
EXAMPLES = [{"prefix_ids": prefix, "target_ids": target} for prefix, target in ROWS]
by_order = pytest.mark.parametrize("order", ["forward", "reversed"])
by_family = pytest.mark.parametrize("family", ["gpt2", "mamba"])


def prepared(objective, tiny_model, family):
    """A model with the objective's modules, every parameter off its initial value."""
    model = tiny_model(family, spread=0.4)
    torch.manual_seed(1)
    objective.attach(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def rows_of(order):
    return [(prefix, target if order == "forward" else target[::-1]) for prefix, target in ROWS]


def states_and_nats(model, prefix, target):
    """Hidden states of the row without its padding, and the summed next-token loss."""
    found = model(torch.tensor([prefix + target]), output_hidden_states=True)
    log_p = found.logits[0].log_softmax(dim=-1)
    nats = sum(-log_p[len(prefix) - 1 + i, token] for i, token in enumerate(target))
    return found.hidden_states[-1][0], nats


def nats_of(model, state, token):
    return -model.get_output_embeddings()(state).log_softmax(dim=-1)[token]


def check(objective, model, expected, count):
    loss = objective.loss(model, objective.collate(EXAMPLES))
    torch.testing.assert_close(loss.sum, expected, rtol=2e-4, atol=2e-4)
    assert int(loss.count) == count
    return loss


@by_order
@by_family
def test_multi_token_heads(order, family, tiny_model):
    """Catches: a head one token off, prefix tokens predicted, a head that sees padding or
    predicts from it, heads averaged instead of summed."""
    objective = MultiTokenHeads(heads=3, order=order, **TOKENS)
    model = prepared(objective, tiny_model, family)
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        expected = expected + nats
        sequence = prefix + target
        for j in (2, 3):
            head = auxiliary_modules.modules_of(model)[f"head_{j}"](inputs_embeds=states[None]).last_hidden_state[0]
            for t in range(len(sequence) - j):
                if t + j >= len(prefix):
                    expected = expected + nats_of(model, head[t], sequence[t + j])
    loss = check(objective, model, expected, 7)
    assert list(loss.parts) == ["next_token", "head_2", "head_3"]
    assert sum(loss.parts.values()) == pytest.approx(float(loss.sum.detach()), rel=1e-5)


@by_order
@by_family
@pytest.mark.parametrize("window", [None, 2])
def test_token_order(order, family, window, tiny_model):
    """Catches: distances counted from 0, the batch's window taken for a short row, the far ranked above the near."""
    objective = TokenOrder(order=order, window=window, weight=0.5, **TOKENS)
    model = prepared(objective, tiny_model, family)
    reach = window or 4  # the longest target of the batch
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        expected = expected + nats
        for i in range(len(target)):
            scores = torch.full((VOCABULARY,), -torch.inf)
            for steps, token in enumerate(target[i : i + reach], start=1):
                scores[token] = reach - steps
            log_p = auxiliary_modules.modules_of(model)["order"](states[len(prefix) - 1 + i]).log_softmax(dim=-1)
            ranked = sum(scores.softmax(dim=-1)[v] * log_p[v] for v in target[i : i + reach])
            expected = expected - 0.5 * ranked
    check(objective, model, expected, 7)


def test_token_order_of_a_token_that_comes_twice():
    """Catches: the later of two occurrences, or their sum, as the score."""
    scores = upcoming(torch.tensor([[2, 1, 2, IGNORE]]), vocabulary=4)
    never = -torch.inf
    assert scores.tolist() == [
        [[never, 2, 3, never], [never, 3, 2, never], [never, never, 3, never], [never, never, never, never]]
    ]


@by_order
@by_family
@pytest.mark.parametrize("window", [None, 2])
def test_future_bag(order, family, window, tiny_model):
    """Catches: the next token in the bag (a look-up), an empty bag that counts, rows weighed by their padding."""
    objective = FutureBag(order=order, window=window, weight=2.0, **TOKENS)
    model = prepared(objective, tiny_model, family)
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        bags = []
        for i in range(len(target) - 1):
            bag = set(target[i + 1 : i + (window or 4)])
            logits = auxiliary_modules.modules_of(model)["bag"](states[len(prefix) - 1 + i])
            inside = sum(-F.logsigmoid(logits[v]) for v in bag) / len(bag)
            others = set(range(VOCABULARY)) - bag
            outside = sum(-F.logsigmoid(-logits[v]) for v in others) / len(others)
            bags.append((inside + outside) / 2)
        expected = expected + nats + 2.0 * len(target) * sum(bags) / len(bags)
    check(objective, model, expected, 7)


@by_order
@by_family
def test_joint_multi_token(order, family, tiny_model):
    """Catches: a window that sees more than the state and its tokens, the first token counted twice, padding."""
    objective = JointMultiToken(order=order, window=3, weight=0.5, **TOKENS)
    model = prepared(objective, tiny_model, family)
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        windows = []
        for i in range(len(target)):
            hidden = states[len(prefix) - 1 + i][None, None]
            for given, wanted in zip(target[i : i + 2], target[i + 1 : i + 3], strict=False):
                embedded = model.get_input_embeddings()(torch.tensor([[given]]))
                read, hidden = auxiliary_modules.modules_of(model)["window"](embedded, hidden)
                windows.append(nats_of(model, read[0, 0], wanted))
        expected = expected + nats + 0.5 * len(target) * sum(windows) / len(windows)
    check(objective, model, expected, 7)


@by_order
@by_family
@pytest.mark.parametrize("horizon", [1, 2])
def test_next_latent(order, family, horizon, tiny_model):
    """Catches: rolled through predicted or shifted tokens, only target states counted, a mean over padding; the last
    token's state, which only short rows have."""
    objective = NextLatent(order=order, horizon=horizon, smooth_weight=0.5, kl_weight=2.0, **TOKENS)
    model = prepared(objective, tiny_model, family)
    modules = auxiliary_modules.modules_of(model)
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        sequence = (prefix + target)[:-1]  # the last token is never read, so it has no state
        smooth, kl = [], []
        for t in range(len(sequence)):
            rolled = states[t]
            for i in range(1, horizon + 1):
                if t + i >= len(sequence):
                    break
                embedded = model.get_input_embeddings().weight[sequence[t + i]]
                rolled = rolled + modules["step"](torch.cat([modules["norm"](rolled), embedded]))
                smooth.append(F.smooth_l1_loss(rolled, states[t + i]))
                p, q = (model.get_output_embeddings()(x).softmax(dim=-1) for x in (states[t + i], rolled))
                kl.append((p * (p.log() - q.log())).sum())
        latent = 0.5 * sum(smooth) / len(smooth) + 2.0 * sum(kl) / len(kl)
        expected = expected + nats + len(target) * latent
    check(objective, model, expected, 7)


def test_next_latent_rolls_each_row_as_far_as_its_own_target(tiny_model):
    """Catches: without a horizon, a row whose loss rests on the longest target of its batch."""
    rows = [
        {"prefix_ids": [1, 2, 3, 4], "target_ids": [5, 6, 7, 8, 9, 0]},
        {"prefix_ids": [6, 0, 9], "target_ids": [10, 11, 12]},
    ]
    model, objective = tiny_model("gpt2", spread=0.3), NextLatent(**TOKENS)
    objective.attach(model)
    together = objective.loss(model, objective.collate(rows))
    alone = [objective.loss(model, objective.collate([row])) for row in rows]
    for name in ("next_token", "smooth", "kl"):
        torch.testing.assert_close(together.parts[name], sum(loss.parts[name] for loss in alone))
    long_ago = dataclasses.replace(objective, horizon=4).loss(model, objective.collate(rows[:1]))
    assert torch.equal(alone[0].sum, long_ago.sum)  # the target's length - 2


def test_next_latent_moves_neither_its_targets_nor_the_unembedding(tiny_model):
    """Catches: states that collapse because the latent losses pull the targets, too."""
    objective = NextLatent(horizon=1, **TOKENS)
    model = prepared(objective, tiny_model, "mamba")
    model.set_output_embeddings(copy.deepcopy(model.get_output_embeddings()))
    loss = objective.loss(model, objective.collate(EXAMPLES))
    only_latent = loss.sum - objective_next_token(model, objective)
    (gradient,) = torch.autograd.grad(only_latent, model.get_output_embeddings().weight, allow_unused=True)
    assert gradient is None or float(gradient.abs().max()) < 1e-5


def objective_next_token(model, objective):
    seen = forward_pass(model, objective.collate(EXAMPLES))
    return cross_entropy(seen.logits_BTV, seen.labels_BT)


@by_order
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_registers(order, seed, tiny_model):
    """Catches: a register that sees later tokens or other registers, a wrong place, a label one off. Each register is
    read from a stock causal pass over its own prefix, which needs no mask at all."""
    objective = Registers(order=order, max_distance=3, share=0.3, **TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    torch.manual_seed(seed)
    distance = 4 - objective.collate(EXAMPLES)["register_labels"].shape[1]
    expected = 0
    for prefix, target in rows_of(order):
        _, nats = states_and_nats(model, prefix, target)
        further = []
        for i in range(1, len(target) - distance + 1):
            ids = [*prefix, *target[:i], 13]
            places = [*range(len(prefix) + i), len(prefix) + i + distance - 2]
            logits = model(torch.tensor([ids]), position_ids=torch.tensor([places])).logits[0, -1]
            further.append(-logits.log_softmax(dim=-1)[target[i + distance - 1]])
        registers = len(target) * sum(further) / len(further) if further else 0
        expected = expected + 0.7 * nats + 0.3 * registers
    torch.manual_seed(seed)
    check(objective, model, expected, 7)


def test_registers_draw_every_distance():
    """Catches: distance 1, which could be looked up; a distance that is never drawn."""
    torch.manual_seed(0)
    objective = Registers(max_distance=3, **TOKENS)
    widths = {objective.collate(EXAMPLES)["register_labels"].shape[1] for _ in range(40)}
    assert widths == {1, 2}  # distance 3 and 2 of a target of four


def test_registers_batch_by_hand():
    """Catches: a place that is the label's own, registers of a short row that stand for nothing but count."""
    torch.manual_seed(0)
    objective = Registers(max_distance=2, **TOKENS)
    batch = objective.collate(EXAMPLES)
    x = IGNORE
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[1, 2, 3, 4, 7, 8, 9, 5, 13, 13], [14, 14, 6, 0, 10, 11, 12, 14, 13, 14]],
        "attention_mask": [[1] * 10, [0, 0, 1, 1, 1, 1, 1, 0, 1, 0]],
        "position_ids": [[0, 1, 2, 3, 4, 5, 6, 7, 5, 6], [0, 0, 0, 1, 2, 3, 4, 4, 3, 4]],
        "labels": [[x, x, x, x, 7, 8, 9, 5, x, x], [x, x, x, x, 10, 11, 12, x, x, x]],
        "register_labels": [[9, 5], [12, x]],
    }


@by_order
@pytest.mark.parametrize("fraction", [1.0, 0.5])
@by_family
def test_belief_state(order, fraction, family, tiny_model):
    """Catches: a backward encoder that has read the token it predicts, the suffix forwards, other rows' gaps."""
    objective = BeliefState(order=order, pair_fraction=fraction, **TOKENS)
    model = prepared(objective, tiny_model, family)
    modules = auxiliary_modules.modules_of(model)
    torch.manual_seed(3)
    gaps = objective.collate(EXAMPLES)["gaps"]
    expected = 0
    for row, (prefix, target) in enumerate(rows_of(order)):
        states, _ = states_and_nats(model, prefix, target)
        losses = []
        for i in range(len(target)):
            for m in range(i, len(target)):
                if not gaps[row, i, m]:
                    continue
                suffix = torch.tensor(target[m + 1 :][::-1], dtype=torch.long)
                embedded = torch.cat([modules["start"].weight, model.get_input_embeddings()(suffix)])
                behind = modules["backward"](inputs_embeds=embedded[None]).last_hidden_state[0, -1]
                first, last = modules["pair"](torch.cat([states[len(prefix) - 1 + i], behind])).chunk(2)
                losses.append((nats_of(model, first, target[i]) + nats_of(model, last, target[m])) / 2)
        expected = expected + len(target) * sum(losses) / len(losses)
    assert int(gaps.sum()) == 16 if fraction == 1 else 0 < int(gaps.sum()) < 16
    torch.manual_seed(3)
    check(objective, model, expected, 7)


@pytest.mark.parametrize("kind", [MaskedDiffusion, UniformMask])
def test_hidden_tokens_by_hand(kind, tiny_model):
    """Catches: shown tokens in the loss, logits one column off, a weight of another time or number, padding seen."""
    objective = kind(**TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    torch.manual_seed(5)
    batch = objective.collate(EXAMPLES)
    expected = hidden = 0
    for row, (prefix, target) in enumerate(ROWS):
        inputs = [i for i in batch["input_ids"][row].tolist() if i != 14]
        places = [i for i in range(len(target)) if inputs[len(prefix) + i] == 13]
        hidden += len(places)
        assert inputs == prefix + [13 if i in places else token for i, token in enumerate(target)]
        mask = torch.zeros(1, 1, len(inputs), len(inputs))  # everyone sees everyone
        log_p = model(torch.tensor([inputs]), attention_mask=mask).logits[0].log_softmax(dim=-1)
        for i in places:
            if kind is UniformMask:
                expected = expected - len(target) / len(places) * log_p[len(prefix) + i, target[i]]
            else:
                right = log_p[len(prefix) + i - 1, target[i]]
                expected = expected - (20 - batch["times"][row]) * 0.25 * (1 - right.exp()) * right
    assert 2 <= hidden < 7
    torch.manual_seed(5)
    check(objective, model, expected, 7 if kind is UniformMask else hidden)


@pytest.mark.parametrize("kind", [MaskedDiffusion, UniformMask])
def test_hidden_tokens_see_both_ways(kind, tiny_model):
    """Catches: a mask that the model drops, so that later tokens are never seen."""
    objective = kind(**TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    hidden = torch.tensor([[True, False, False, False]])
    parts = objective.layout(EXAMPLES[:1])
    batch = objective.hidden_batch(parts, hidden, parts["target_ids"].where(hidden, IGNORE))
    batch |= {"times": torch.tensor([3])}
    before = objective.loss(model, batch).sum
    batch["input_ids"][0, -1] = 0
    assert (objective.loss(model, batch).sum - before).abs().item() > 1e-3


def test_masked_diffusion_draws_a_batch_again_in_which_nothing_is_hidden():
    """Catches: a loss divided by no labels at all, the end of a training on small batches."""
    torch.manual_seed(0)
    objective = MaskedDiffusion(**TOKENS)
    row = [{"prefix_ids": [1], "target_ids": [7]}]
    assert all(objective.collate(row)["labels"].tolist() == [[IGNORE, 7]] for _ in range(50))


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_masked_diffusion_of_a_token_that_is_certain(gamma, tiny_model):
    """Catches: the infinite gradient of (1 - p)^gamma at p = 1, which times zero is NaN."""
    objective = MaskedDiffusion(gamma=gamma, steps=1, **TOKENS)
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()[7] = 1e3 * torch.ones(16)
    rows = [{"prefix_ids": [1], "target_ids": [7, 7]}]
    model.transformer.ln_f.weight.data.zero_()
    model.transformer.ln_f.bias.data.fill_(1.0)
    loss = objective.loss(model, objective.collate(rows))
    loss.sum.backward()
    assert loss.sum.item() == 0
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


class Surest(torch.nn.Module):
    """Predicts 7 8 9 for the columns, ever surer from the last to the first, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []
        self.dtype = torch.float32
        self.config = GPT2Config(n_positions=8)

    def forward(self, input_ids, logits_to_keep, **kwargs):
        assert logits_to_keep == 4  # the state before the answer predicts its first token
        self.shown.append(input_ids[0, -3:].tolist())
        logits = torch.zeros(len(input_ids), 4, VOCABULARY)
        for column, token in enumerate((7, 8, 9)):
            logits[:, column, token] = 1.0 + column
        return type("Output", (), {"logits": logits})


@pytest.mark.parametrize(
    ("options", "way", "shown"),
    [
        ({"steps": 3}, "unmasking", [[13, 13, 13], [13, 13, 9], [13, 8, 9]]),
        ({"steps": 2}, "unmasking", [[13, 13, 13], [13, 8, 9]]),
        ({"steps": 1}, "unmasking", [[13, 13, 13]]),
        ({"steps": 5}, "unmasking", [[13, 13, 13], [13, 13, 9], [13, 8, 9], [13, 8, 9], [7, 8, 9]]),
        ({"steps": 3}, "parallel", [[13, 13, 13]]),
    ],
)
def test_unmasking_hides_the_least_sure_again(options, way, shown):
    """Catches: left to right, the surest hidden, another number of passes than asked for."""
    model = Surest()
    objective = MaskedDiffusion(noise=0, **options, **TOKENS)
    assert objective.decode(model, torch.tensor([[1, 2]]), 3, decoding=way).tolist() == [[7, 8, 9]]
    assert model.shown == shown


def test_noise_of_decoding_belongs_to_the_prompt():
    """Catches: answers that change from call to call or with the other rows, one noise for all rows."""
    ids, mask = torch.tensor([[14, 1, 2], [3, 4, 5]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    both = uniform_numbers((ids, mask), 20, 4)
    alone = uniform_numbers((ids[:1, 1:], mask[:1, 1:]), 20, 2)
    assert torch.equal(both[:, :1, :2], alone)
    assert not torch.equal(both[:, 0], both[:, 1])
    assert 0.4 < both.mean() < 0.6


@by_order
@pytest.mark.parametrize("kind", [MaskedDiffusion, UniformMask, BeliefState])
def test_own_forced_predictions_see_earlier_tokens_only(kind, order, tiny_model):
    """Catches: forced predictions that see the token asked for or later ones, or that ignore the earlier ones."""
    objective = kind(order=order, **TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    prefix = torch.tensor([[1, 2, 3, 4]])
    shown = torch.tensor([[7, 8, 9, 5]])
    forced = objective.reorder(objective.decode(model, prefix, 4, shown=shown))
    for column in range(4):
        for other in range(10):
            changed = shown.clone()
            changed[0, column] = other
            again = objective.reorder(objective.decode(model, prefix, 4, shown=changed))
            assert torch.equal(again[:, : column + 1], forced[:, : column + 1])
    if (
        kind is not MaskedDiffusion
    ):  # greedy decoding and forced predictions meet where every forced token is what it predicts
        free = objective.decode(model, prefix, 4)
        assert torch.equal(objective.decode(model, prefix, 4, shown=objective.reorder(free)), free)


@pytest.mark.parametrize(
    "objective",
    [MultiTokenHeads(heads=2), TokenOrder(), FutureBag(), NextLatent(), JointMultiToken(), Registers(**TOKENS)],
    ids=lambda objective: type(objective).__name__,
)
def test_decoding_is_the_stock_models(objective, tiny_model):
    """Catches: attached modules that change what the stock model predicts."""
    model = tiny_model("gpt2", spread=0.5)
    prefix, shown = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[7, 8, 9, 5]])
    mask = torch.ones_like(prefix)
    before = one_pass(model, prefix, mask, shown)
    objective.attach(model)
    assert torch.equal(objective.decode(model, prefix, 4, shown=shown), before)
    assert "parallel" not in objective.decodings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiTokenHeads(heads=0), "heads=0 must be a whole number from 1"),
        (lambda: MultiTokenHeads(heads=65), "heads=65 must be a whole number from 1 to 64; the default is 4"),
        (lambda: TokenOrder(window=0), "window=0 must be a whole number from 1"),
        (lambda: TokenOrder(weight=-1), "weight=-1 must be a number from 0; the default is 1.0"),
        (lambda: FutureBag(window=1), "window=1 must be a whole number from 2"),
        (lambda: JointMultiToken(window=1), "window=1 must be a whole number from 2"),
        (lambda: NextLatent(horizon=0), "horizon=0 must be a whole number from 1"),
        (lambda: NextLatent(kl_weight=-0.1), "kl_weight=-0.1 must be a number from 0; the default is 1.0"),
        (lambda: Registers(max_distance=1, **TOKENS), "max_distance=1 must be a whole number from 2"),
        (lambda: Registers(share=2, **TOKENS), "share=2 must be a number from 0 to 1"),
        (lambda: BeliefState(pair_fraction=0), "pair_fraction=0 must be a number above 0 to 1"),
        (lambda: MaskedDiffusion(steps=0, **TOKENS), "steps=0 must be a whole number from 1"),
        (lambda: MaskedDiffusion(alpha=0, **TOKENS), "alpha=0 must be a number above 0"),
        (
            lambda: MaskedDiffusion(time_weight="1/t", **TOKENS),
            "time_weight='1/t' is not a choice; give one of 'linear'",
        ),
        (lambda: MaskedDiffusion(unmasking=2, **TOKENS), "unmasking=2 is not a choice; give one of 'linear', 'cosine'"),
    ],
)
def test_options_out_of_range(make, message):
    """Catches: an option that trains something else in silence."""
    with pytest.raises(ValueError, match=message):
        make()


def test_options_survive_json():
    """Catches: options lost between a run and its reload."""
    objective = NextLatent(order="reversed", horizon=3, smooth_weight=0.5, kl_weight=0.25, pad_token_id=14)
    assert read_objective(json.loads(json.dumps(objective.to_dict()))) == objective
