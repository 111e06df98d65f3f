"""The objectives of other groups: each loss against a plain loop over rows, written from the paper's equation."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config

from nt_failures.data.batches import IGNORE
from nt_failures.evaluation.prediction import each_pass_once
from nt_failures.objectives import auxiliary_modules, read_objective
from nt_failures.objectives.belief_state import BeliefState
from nt_failures.objectives.decoding import one_pass
from nt_failures.objectives.fetch import Fetch, attention_heads
from nt_failures.objectives.future_bag import FutureBag
from nt_failures.objectives.joint_multi_token import JointMultiToken
from nt_failures.objectives.losses import cross_entropy, forward_pass, upcoming
from nt_failures.objectives.masked_diffusion import MaskedDiffusion
from nt_failures.objectives.multi_token_heads import MultiTokenHeads
from nt_failures.objectives.next_latent import NextLatent
from nt_failures.objectives.registers import Registers
from nt_failures.objectives.token_order import TokenOrder

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
@pytest.mark.parametrize("mean_weight", [None, 0.5])
def test_multi_token_heads(order, family, mean_weight, tiny_model):
    """Catches: a head behind the last block or its norm, a head one token off, prefix tokens predicted, a head that
    sees padding or predicts from it, heads averaged instead of summed, a short prompt's fewer labels counted as such;
    of NextLat's variant: heads summed, a shared norm."""
    objective = MultiTokenHeads(heads=3, mean_weight=mean_weight, order=order, **TOKENS)
    model = prepared(objective, tiny_model, family)
    modules, trunk, weight = auxiliary_modules.modules_of(model), model.base_model, (mean_weight or 2) / 2
    expected = 0
    for prefix, target in rows_of(order):
        _, nats = states_and_nats(model, prefix, target)
        expected = expected + nats
        sequence = prefix + target
        before = model.get_input_embeddings()(torch.tensor([sequence]))  # one block: before it is the embedding
        if family == "gpt2":
            before = before + trunk.wpe.weight[None, : len(sequence)]
        for j in (2, 3):
            norm = trunk.ln_f if family == "gpt2" else trunk.norm_f
            norm = norm if mean_weight is None else modules[f"norm_{j}"]
            head = norm(modules[f"head_{j}"](before))[0]
            found = [nats_of(model, head[t], sequence[t + j]) for t in range(len(sequence) - j) if t + j >= len(prefix)]
            assert len(found) == min(len(target), len(target) + len(prefix) - j)
            expected = expected + weight * len(target) * sum(found) / len(found)
    loss = check(objective, model, expected, 7)
    assert list(loss.parts) == ["next_token", "head_2", "head_3"]
    named = loss.parts["next_token"] + weight * (loss.parts["head_2"] + loss.parts["head_3"])
    torch.testing.assert_close(named, loss.sum.detach())


def test_only_head_1_of_the_variant_predicts_the_end(tiny_model):
    """Catches: the end token as a label of further heads, where NextLat's code has it for head 1 alone."""
    objective = MultiTokenHeads(heads=2, mean_weight=1.0, end_token_id=12, **TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    ends = objective.loss(model, objective.collate([EXAMPLES[1]]))  # 10 11 12
    without = objective.loss(model, objective.collate([{"prefix_ids": [6, 0], "target_ids": [10, 11]}]))
    assert (int(ends.count), int(without.count)) == (3, 2)
    torch.testing.assert_close(ends.parts["head_2"] / 3, without.parts["head_2"] / 2)


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
    """Catches: a window that sees more than the state and its tokens, the first target token predicted by a slot, a
    prompt's token as a teacher, states before `=` left out or read from padding, the model's own logits."""
    objective = JointMultiToken(order=order, window=4, weight=0.5, **TOKENS)
    model = prepared(objective, tiny_model, family)
    fetch, embed = auxiliary_modules.modules_of(model)["fetch"], model.get_input_embeddings().weight
    expected = 0
    for prefix, target in rows_of(order):
        states, _ = states_and_nats(model, prefix, target)
        sequence = prefix + target
        slots = {1: [], 2: [], 3: []}
        for c in range(len(sequence) - 1):
            teachers = [sequence[c + k] if len(prefix) <= c + k < len(sequence) else 0 for k in slots]
            found = fetch(states[c][None], embed[[sequence[c], *teachers]][None])[0]
            if c >= len(prefix) - 1:
                expected = expected + nats_of(model, found[0], sequence[c + 1])
            for k, terms in slots.items():
                if c + k >= len(prefix) and c + k + 1 < len(sequence):
                    terms.append(nats_of(model, found[k], sequence[c + k + 1]))
        expected = expected + 0.5 * len(target) * sum(sum(terms) / len(terms) for terms in slots.values()) / 3
    check(objective, model, expected, 7)


@pytest.mark.parametrize("objective", [JointMultiToken(window=8, **TOKENS), MultiTokenHeads(heads=8, **TOKENS)])
@pytest.mark.parametrize("prompt", [1, 4])
def test_one_token_has_nothing_behind_it(objective, prompt, tiny_model):
    """Catches: a crash or NaN where windows reach beyond the row; a head whose state would stand before the row."""
    model = prepared(objective, tiny_model, "gpt2")
    loss = objective.loss(model, objective.collate([{"prefix_ids": [1] * prompt, "target_ids": [7]}]))
    loss.sum.backward()
    assert float(loss.sum.detach()) > 0
    assert int(loss.count) == 1
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    if isinstance(objective, JointMultiToken):
        assert float(loss.parts["window"]) == 0
    else:
        assert [j for j in range(2, 9) if float(loss.parts[f"head_{j}"])] == list(range(2, prompt + 1))


def test_fetch_by_hand():
    """Catches: a state added to slot 0 or left out of the others, scores that are not scaled, a bias of other slots."""
    fetch = Fetch(2, heads=1, slots=2).double()
    with torch.no_grad():
        fetch.gamma.fill_(2.0)
        fetch.qkv.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 3]]))
        fetch.out.weight.copy_(torch.eye(2))
        fetch.bias[0, 1, 0] = 0.5
    state, read = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[[0.0, 0.0], [-4.0, 0.0]]]).double()
    # Mixed: (2, 0) and (-2, 0), behind the norm (1, -1) and (-1, 1); values (1, -3) and (-1, 3).
    one = 1 / (1 + 1e-5) ** 0.5  # of the norm's epsilon
    first, second = -2 * one**2 / 2**0.5 + 0.5, 2 * one**2 / 2**0.5
    share = 1 / (1 + math.exp(second - first))
    slots = torch.tensor([[1, -3], [(2 * share - 1) + 1 / one, -3 * (2 * share - 1)]]).double() * one
    expected = slots / (slots.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(fetch(state, read)[0], expected)
    assert [attention_heads(384, 4), attention_heads(30, 4), attention_heads(7, 4)] == [4, 3, 1]


@by_family
def test_joint_multi_token_decodes_by_slot_0(family, tiny_model):
    """Catches: the model's own logits, a cache read at the wrong column, logits that stay replaced."""
    objective = JointMultiToken(**TOKENS)
    model = prepared(objective, tiny_model, family)
    fetch = auxiliary_modules.modules_of(model)["fetch"]
    prefix = torch.tensor([[14, 1, 2, 3], [6, 0, 9, 4]])
    mask = prefix.ne(14).long()
    before = one_pass(model, prefix, mask, torch.tensor([[7, 8], [9, 5]]))
    rows = []
    for row in ([1, 2, 3], [6, 0, 9, 4]):
        sequence = list(row)
        for _ in range(4):
            state = model(torch.tensor([sequence]), output_hidden_states=True).hidden_states[-1][:, -1]
            slot = fetch(state, model.get_input_embeddings()(torch.tensor([[sequence[-1]]])))
            sequence.append(int(model.get_output_embeddings()(slot[0, 0]).argmax()))
        rows.append(sequence[len(row) :])
    free = objective.decode(model, prefix, 4, mask)
    assert free.tolist() == rows
    assert torch.equal(objective.decode(model, prefix, 4, mask, shown=free), free)
    assert torch.equal(one_pass(model, prefix, mask, torch.tensor([[7, 8], [9, 5]])), before)
    remembered = objective.loss(model, objective.collate(EXAMPLES)).sum
    with each_pass_once(model):
        objective.decode(model, prefix, 4, mask, shown=free)
        assert torch.equal(objective.loss(model, objective.collate(EXAMPLES)).sum, remembered)
        assert torch.equal(objective.decode(model, prefix, 4, mask, shown=free), free)


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


def test_masked_diffusion_weighs_by_the_rate(tiny_model):
    """Catches: unmasked tokens in the loss, the weight 1 / rate left out, the mean over masked tokens alone."""
    objective = MaskedDiffusion(alpha=0.5, gamma=2.0, **TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    torch.manual_seed(5)
    batch = objective.collate(EXAMPLES)
    torch.manual_seed(5)
    rates = torch.rand(2, 1)
    masked = torch.rand(2, 4) < rates
    masked[1, 3] = False  # padding
    assert 0 < int(masked.sum()) < 7
    expected = 0
    for row, (prefix, target) in enumerate(ROWS):
        shown = [13 if hidden else token for hidden, token in zip(masked[row].tolist(), target, strict=False)]
        assert [i for i in batch["input_ids"][row].tolist() if i != 14] == prefix + shown
        length = len(prefix) + len(target)
        mask = torch.zeros(1, 1, length, length)  # everyone sees everyone
        log_p = model(torch.tensor([prefix + shown]), attention_mask=mask).logits[0].log_softmax(dim=-1)
        for i, token in enumerate(target):
            if masked[row, i]:
                nats = -log_p[len(prefix) + i, token]
                expected = expected + 0.5 * (1 - (-nats).exp()) ** 2 * nats / rates[row, 0]
    torch.manual_seed(5)
    check(objective, model, expected, 7)


def test_masked_diffusion_sees_both_ways(tiny_model):
    """Catches: a mask that the model drops, so that later tokens are never seen."""
    objective = MaskedDiffusion(**TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    torch.manual_seed(5)
    batch = objective.collate(EXAMPLES[:1])
    batch["weights"] = torch.tensor([[1.0, 0, 0, 0]])
    before = objective.loss(model, batch).sum
    batch["input_ids"][0, -1] = 0
    assert (objective.loss(model, batch).sum - before).abs().item() > 1e-3


class Surest(torch.nn.Module):
    """Predicts 7 8 9 for the columns, ever surer from the last to the first, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []
        self.dtype = torch.float32
        self.config = GPT2Config(n_positions=8)

    def forward(self, input_ids, logits_to_keep, **kwargs):
        assert logits_to_keep == 3
        self.shown.append(input_ids[0, -3:].tolist())
        logits = torch.zeros(len(input_ids), 3, VOCABULARY)
        for column, token in enumerate((7, 8, 9)):
            logits[:, column, token] = 1.0 + column
        return type("Output", (), {"logits": logits})


@pytest.mark.parametrize(
    ("options", "way", "shown"),
    [
        ({}, "unmasking", [[13, 13, 13], [13, 13, 9], [13, 8, 9]]),
        ({"steps": 2}, "unmasking", [[13, 13, 13], [13, 8, 9]]),
        ({"steps": 1}, "unmasking", [[13, 13, 13]]),
        ({"steps": 5}, "unmasking", [[13, 13, 13], [13, 13, 9], [13, 8, 9]]),
        ({}, "parallel", [[13, 13, 13]]),
    ],
)
def test_unmasking_keeps_the_surest_first(options, way, shown):
    """Catches: left to right, the least sure first, more passes than asked for, a kept token predicted again."""
    model = Surest()
    found = MaskedDiffusion(**options, **TOKENS).decode(model, torch.tensor([[1, 2]]), 3, decoding=way)
    assert found.tolist() == [[7, 8, 9]]
    assert model.shown == shown


@by_order
@pytest.mark.parametrize("kind", [MaskedDiffusion, BeliefState])
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
    if kind is BeliefState:  # greedy decoding and forced predictions meet where every forced token is what it predicts
        free = objective.decode(model, prefix, 4)
        assert torch.equal(objective.decode(model, prefix, 4, shown=objective.reorder(free)), free)


@pytest.mark.parametrize(
    "objective",
    [MultiTokenHeads(heads=2), TokenOrder(), FutureBag(), NextLatent(), Registers(**TOKENS)],
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
        (lambda: MultiTokenHeads(mean_weight=-1), "mean_weight=-1 must be a number from 0; the default is None"),
        (lambda: JointMultiToken(window=1), "window=1 must be a whole number from 2 to 256"),
        (lambda: NextLatent(horizon=0), "horizon=0 must be a whole number from 1"),
        (lambda: NextLatent(kl_weight=-0.1), "kl_weight=-0.1 must be a number from 0; the default is 1.0"),
        (lambda: Registers(max_distance=1, **TOKENS), "max_distance=1 must be a whole number from 2"),
        (lambda: Registers(share=2, **TOKENS), "share=2 must be a number from 0 to 1"),
        (lambda: BeliefState(pair_fraction=0), "pair_fraction=0 must be a number above 0 to 1"),
        (lambda: MaskedDiffusion(steps=0, **TOKENS), "steps=0 must be a whole number from 1"),
        (lambda: MaskedDiffusion(alpha=0, **TOKENS), "alpha=0 must be a number above 0"),
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
