"""The objectives of other groups: each loss against a plain loop over rows, written from the paper's equation."""

import copy
import dataclasses
import json

import pytest
import torch
from small_models import SMALL, with_modules
from torch.nn import functional as F
from transformers import GPT2Config

from nt_failures.data.batches import IGNORE
from nt_failures.evaluation.prediction import first_pass_once
from nt_failures.objectives import auxiliary_modules, last_block, read_objective
from nt_failures.objectives.auxiliary_modules import attention_heads
from nt_failures.objectives.belief_state import BeliefState
from nt_failures.objectives.decoding import one_pass
from nt_failures.objectives.future_bag import FutureBag
from nt_failures.objectives.future_summary import FutureSummary
from nt_failures.objectives.insertion import Insertion
from nt_failures.objectives.joint_multi_token import JointMultiToken
from nt_failures.objectives.lse_mtp import LseMtp
from nt_failures.objectives.masked_diffusion import MaskedDiffusion, uniform_numbers
from nt_failures.objectives.multi_token_heads import MultiTokenHeads
from nt_failures.objectives.next_latent import NextLatent
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.registers import Registers
from nt_failures.objectives.ritf import Ritf
from nt_failures.objectives.semformer import Semformer
from nt_failures.objectives.sequential_heads import SequentialHeads
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
    return with_modules(objective, tiny_model(family, spread=0.4)).eval()


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


@by_order
@by_family
def test_sequential_heads(order, family, tiny_model):
    """Catches: a token that is read from another column, a depth that sees or predicts from padding, the norm between
    depths, depths summed instead of averaged, a short prompt's fewer labels counted as such."""
    objective = SequentialHeads(depths=2, weight=0.5, order=order, **TOKENS)
    model = prepared(objective, tiny_model, family)
    modules, trunk, embed = auxiliary_modules.modules_of(model), model.base_model, model.get_input_embeddings()
    norm, block = (trunk.ln_f, trunk.h[0]) if family == "gpt2" else (trunk.norm_f, trunk.layers[0])
    expected = 0
    for prefix, target in rows_of(order):
        _, nats = states_and_nats(model, prefix, target)
        expected = expected + nats
        sequence = prefix + target
        tokens = embed(torch.tensor([sequence]))
        states = block(tokens + trunk.wpe.weight[None, : len(sequence)] if family == "gpt2" else tokens)
        for k in (1, 2):
            depth = modules[f"depth_{k}"]
            both = torch.cat([depth.state_norm(states[:, :-1]), depth.token_norm(tokens[:, k:])], dim=-1)
            states = depth.block(depth.merge(both))
            found = [
                nats_of(model, norm(states)[0, c], sequence[c + k + 1])
                for c in range(len(sequence) - k - 1)
                if c + k + 1 >= len(prefix)
            ]
            assert len(found) == min(len(target), len(target) + len(prefix) - k - 1)
            expected = expected + 0.5 / 2 * len(target) * sum(found) / len(found)
    loss = check(objective, model, expected, 7)
    assert list(loss.parts) == ["next_token", "depth_1", "depth_2"]


@pytest.mark.parametrize(("family", "form"), [*((family, "paper") for family in SMALL), ("llama", "transformers")])
def test_sequential_heads_of_rows_together_and_alone(family, form, tiny_model):
    """Catches: a block without the mask or positions of its trunk, in the families that the loop does not build."""
    objective = SequentialHeads(depths=2, form=form, **TOKENS)
    model = tiny_model(family, size="2x16", spread=0.4)
    objective.attach(model)
    together = objective.loss(model, objective.collate(EXAMPLES))
    alone = [objective.loss(model, objective.collate([row])) for row in EXAMPLES]
    for name, part in together.parts.items():
        torch.testing.assert_close(part, sum(loss.parts[name] for loss in alone), rtol=1e-4, atol=1e-4)
    trunk = model.base_model.get_input_embeddings().weight
    (depth,) = torch.autograd.grad(together.sum, trunk)
    torch.testing.assert_close(depth, sum(torch.autograd.grad(loss.sum, trunk)[0] for loss in alone))


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


def with_last_block(model, name):
    """Another model like it, whose last block has the weights of the objective's."""
    beside = copy.deepcopy(model)
    blocks, _ = last_block.parts(beside)
    blocks[-1].load_state_dict(auxiliary_modules.modules_of(model)[name].state_dict())
    return beside


BAGS = [
    {},
    {"window": 2, "states": "with_bag", "token_weights": tuple(i / 10 for i in range(VOCABULARY))},
    {"states": "first", "next_token_in_bag": True, "head": "shared"},
    {"window": 3, "head": "block"},
]


@by_order
@by_family
@pytest.mark.parametrize("options", BAGS, ids=["paper", "tau2-tf-idf", "public-code", "block"])
def test_future_bag(order, family, options, tiny_model):
    """Catches: the next token in the bag (a look-up), a mean over the vocabulary, rows weighed by their padding."""
    objective = FutureBag(order=order, weight=2.0, **options, **TOKENS)
    model = prepared(objective, tiny_model, family)
    linear = objective.head == "linear"
    head = auxiliary_modules.modules_of(model)["bag"] if linear else model.get_output_embeddings()
    w = options.get("token_weights", (1.0,) * VOCABULARY)
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        if objective.head == "block":
            states, _ = states_and_nats(with_last_block(model, "block"), prefix, target)
        bags = []
        for i in range(1 if objective.states == "first" else len(target)):
            bag = set(target[i + (not objective.next_token_in_bag) : i + (objective.window or 4)])
            if bag or objective.states == "all":
                logits = head(states[len(prefix) - 1 + i])
                bags.append(sum(-w[v] * F.logsigmoid(z if v in bag else -z) for v, z in enumerate(logits)))
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


@pytest.mark.parametrize(
    "objective",
    [JointMultiToken(window=8, **TOKENS), MultiTokenHeads(heads=8, **TOKENS), SequentialHeads(depths=7, **TOKENS)],
)
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
        names = [name for name, part in loss.parts.items() if float(part)]
        assert len(names) == prompt  # of the next token, 2, .. ahead: as many as have a state in the row


def test_heads_of_fetch():
    """Catches: a width that the heads do not divide."""
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
    with first_pass_once(model):
        objective.decode(model, prefix, 4, mask, shown=free)
        assert torch.equal(objective.loss(model, objective.collate(EXAMPLES)).sum, remembered)
        assert torch.equal(objective.decode(model, prefix, 4, mask, shown=free), free)


@by_order
@by_family
@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_next_latent(order, family, horizon, tiny_model):
    """Catches: rolled through predicted or shifted tokens, a KL over the prompt, smooth L1 over the target alone, a
    mean over padding, steps that a row is too short for, all steps' columns in one mean."""
    objective = NextLatent(order=order, horizon=horizon, smooth_weight=0.5, kl_weight=2.0, ce_weight=0.3, **TOKENS)
    model = prepared(objective, tiny_model, family)
    step = auxiliary_modules.modules_of(model)["step"]
    expected = 0
    for prefix, target in rows_of(order):
        states, nats = states_and_nats(model, prefix, target)
        sequence = prefix + target
        rolled, means = list(states), {"smooth": [], "kl": [], "ce": []}
        for i in range(1, min(horizon, len(sequence) - 1) + 1):
            columns = {"smooth": [], "kl": [], "ce": []}
            embedded = model.get_input_embeddings().weight[sequence]
            rolled = [None, *(x if x is None else step(x, e) for x, e in zip(rolled[:-1], embedded[1:], strict=True))]
            for c in range(i, len(sequence)):
                columns["smooth"].append(F.smooth_l1_loss(rolled[c], states[c]))
                if len(prefix) - 1 <= c < len(sequence) - 1:
                    p, q = (model.get_output_embeddings()(x).softmax(dim=-1) for x in (states[c], rolled[c]))
                    columns["kl"].append((p * (p.log() - q.log())).sum())
                    columns["ce"].append(-q[sequence[c + 1]].log())
            for name, values in columns.items():
                means[name] += [sum(values) / len(values)] if values else []
        smooth, kl, ce = (sum(steps) / len(steps) for steps in means.values())
        expected = expected + nats + len(target) * (0.5 * smooth + 2.0 * kl + 0.3 * ce)
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


@by_order
@pytest.mark.parametrize("prompt", ["causal", "bidirectional"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_registers(order, prompt, seed, tiny_model):
    """Catches: a register that sees later tokens or other registers, a wrong place, a label one off, a model that drops
    the embedding. Each register is read from a pass over its own prefix alone."""
    objective = Registers(order=order, max_distance=3, share=0.3, prompt_attention=prompt, **TOKENS)
    model = prepared(objective, tiny_model, "gpt2")
    torch.manual_seed(seed)
    distances = [int(row.ne(IGNORE).sum()) for row in objective.collate(EXAMPLES)["register_labels"]]
    register = model.objective_modules["register"].weight
    expected = 0
    for (prefix, target), labelled in zip(rows_of(order), distances, strict=True):
        start, distance, further = len(prefix), len(target) - labelled + 1, []
        sees = torch.ones(start + len(target) + 1, start + len(target) + 1).tril()
        sees[:start, :start] = sees[:start, :start].tril() if prompt == "causal" else 1
        for i in range(labelled):
            ids = [*prefix, *target[:i]]
            places = [*range(start + i), start + i + distance - 2]
            embedded = torch.cat([model.get_input_embeddings()(torch.tensor(ids)), register])[None]
            mask = (sees[: start + i + 1, : start + i + 1] - 1)[None, None] * 1e9
            found = model(inputs_embeds=embedded, position_ids=torch.tensor([places]), attention_mask=mask)
            further.append(-found.logits[0, -1].log_softmax(dim=-1)[target[i + distance - 1]])
        mask = (sees[:-1, :-1] - 1)[None, None] * 1e9
        log_p = model(torch.tensor([prefix + target]), attention_mask=mask).logits[0].log_softmax(dim=-1)
        nats = [-log_p[start - 1 + i, token] for i, token in enumerate(target)]
        expected = expected + 0.7 * sum(nats) + 0.3 * len(target) * sum(further) / labelled
    torch.manual_seed(seed)
    check(objective, model, expected, 7)


def test_registers_draw_every_distance_for_each_row():
    """Catches: distance 1, which could be looked up; a distance that is never drawn, or beyond a row's own target; one
    distance for the whole batch."""
    torch.manual_seed(0)
    drawn = [Registers(max_distance=9).collate(EXAMPLES)["register_labels"].ne(IGNORE).sum(dim=1) for _ in range(60)]
    assert {tuple(labelled.tolist()) for labelled in drawn} == {(a, b) for a in (1, 2, 3) for b in (1, 2)}
    ones = [Registers(max_distance=1, min_distance=1).collate(EXAMPLES)["register_labels"] for _ in range(2)]
    assert [labels.tolist() for labels in ones] == [[[7, 8, 9, 5], [10, 11, 12, IGNORE]]] * 2


def test_a_target_shorter_than_every_distance_has_no_register(tiny_model):
    """Catches: a mean over nothing, an offset drawn beyond the target."""
    objective, model = Registers(share=0.3), tiny_model("gpt2", spread=0.4)
    objective.attach(model)
    loss = objective.loss(model, objective.collate([{"prefix_ids": [1, 2], "target_ids": [7]}]))
    assert loss.parts["registers"] == 0
    torch.testing.assert_close(loss.sum.detach(), 0.7 * loss.parts["next_token"])


@by_order
def test_registers_decode_with_the_prompt_they_were_trained_with(order, tiny_model):
    """Catches: a model trained on a bidirectional prompt that decodes behind a causal one; forced and free predictions
    that differ where all forced tokens are what is predicted; padding seen."""
    both = Registers(order=order, prompt_attention="bidirectional", **TOKENS)
    model = tiny_model("gpt2", size="2x16", spread=1.0)
    both.attach(model)
    prefix, mask = torch.tensor([[14, 1, 2, 3, 4], [9, 8, 7, 6, 5]]), torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    free = both.decode(model, prefix, 4, mask)
    assert torch.equal(both.decode(model, prefix[:1, 1:], 4), free[:1])
    assert torch.equal(both.decode(model, prefix, 4, mask, shown=both.reorder(free)), free)
    assert not torch.equal(free, Registers(order=order, **TOKENS).decode(model, prefix, 4, mask))
    assert not both.stock


def test_registers_refuse_a_model_that_sees_no_later_tokens(tiny_model, monkeypatch):
    """Catches: a prompt said to be bidirectional that the model's own mask keeps causal."""
    monkeypatch.setattr("nt_failures.objectives.registers.capabilities", lambda model: frozenset({"4d_mask"}))
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel does not let a token see later ones.*give 'causal'"):
        Registers(prompt_attention="bidirectional").attach(tiny_model("gpt2"))
    Registers().attach(tiny_model("gpt2"))


def joint(model, before, suffix):
    """Logits of the joint head, with the end symbol's last, from the forward state and the tokens behind the gap."""
    modules = auxiliary_modules.modules_of(model)
    tokens = model.get_input_embeddings()(torch.tensor(suffix[::-1], dtype=torch.long))
    read = modules["backward"](inputs_embeds=torch.cat([modules["end"].weight, tokens])[None]).last_hidden_state[0, -1]
    pair, x = modules["pair"], torch.cat([before, read])
    gate, up = (pair.gate_up.weight @ x).chunk(2)
    x = x + pair.down.weight @ (gate * gate.sigmoid() * up)
    x = pair.norm.weight * x / (x.square().mean() + 1e-5).sqrt()
    return [(pair.unembedding.weight @ half).log_softmax(dim=-1) for half in x.chunk(2)]


@by_order
@pytest.mark.parametrize(("gap", "adjacent"), [(2, "end"), (1, "end"), (1, "tokens"), (3, "end")])
@by_family
def test_belief_state(order, gap, adjacent, family, tiny_model):
    """Catches: a backward encoder that has read the token it predicts, the suffix forwards, other rows' pairs."""
    objective = BeliefState(order=order, minimum_gap=gap, adjacent=adjacent, **TOKENS)
    model = prepared(objective, tiny_model, family)
    expected, pairs = 0, 0
    for prefix, target in rows_of(order):
        row, start, losses = [*prefix, *target, VOCABULARY], len(prefix) - 1, []
        states = model(torch.tensor([row[:-1]]), output_hidden_states=True).hidden_states[-1][0]
        for a in range(start, len(row)):
            for z in range(a + gap, len(row)):
                ends = (VOCABULARY,) * 2 if (z - a, adjacent) == (1, "end") else (row[a + 1], row[z - 1])
                log_p = joint(model, states[a], row[z:-1])
                losses.append(-(log_p[0][ends[0]] + log_p[1][ends[1]]) / 2)
        expected, pairs = expected + len(target) * sum(losses) / len(losses), pairs + len(losses)
    assert pairs == {1: 25, 2: 16, 3: 9}[gap]
    check(objective, model, expected, 7)


def test_belief_state_draws_its_share_of_the_pairs_of_each_row():
    """Catches: pairs of a short row drawn from the long one's, pairs drawn twice, the first ones at every draw."""
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        batch = BeliefState(pair_fraction=0.5, **TOKENS).collate(EXAMPLES)
        assert batch["pairs"].shape == (2, 5, 2)
        for row, length, count in zip(batch["pairs"].tolist(), (4, 3), (5, 3), strict=True):
            pairs = {(i, k) for i, k in row if i >= 0}
            assert len(pairs) == count
            assert all(i + k < length for i, k in pairs)
            drawn |= {(length, *pair) for pair in pairs}
    assert len(drawn) == 10 + 6


def test_belief_state_labels_by_hand():
    """Catches: labels of a short row that come from its padding; a gap of 1 labelled with tokens, or END elsewhere."""
    rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8]}, {"prefix_ids": [3], "target_ids": [9]}]
    x = IGNORE
    batch = BeliefState(minimum_gap=1, adjacent="tokens").collate(rows)
    assert batch["pairs"].tolist() == [
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]],
        [[0, 0], [0, 1], [x, x], [1, 0], [x, x], [x, x]],
    ]
    assert batch["pair_labels"].tolist() == [
        [[7, 8], [7, 7], [7, 2], [8, 8], [8, 7], [-1, 8]],
        [[9, 9], [9, 3], [x, x], [-1, 9], [x, x], [x, x]],
    ]
    ended = BeliefState(minimum_gap=1).collate(rows)["pair_labels"].tolist()
    assert ended[0] == [[7, 8], [7, 7], [-1, -1], [8, 8], [-1, -1], [-1, -1]]
    assert ended[1] == [[9, 9], [-1, -1], [x, x], [-1, -1], [x, x], [x, x]]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_belief_state_starts_its_head_as_the_source_does(family, tiny_model):
    """Catches: a start that depends on the model's own, an unembedding tied to the embedding, a parameter that gets no
    gradient and that data parallelism waits for."""
    model, objective = tiny_model(family, size="1x96"), BeliefState(**TOKENS)
    torch.manual_seed(0)
    objective.attach(model)
    head = auxiliary_modules.modules_of(model)["pair"]
    for weight, shape in ((head.gate_up.weight, (1024, 192)), (head.down.weight, (192, 512))):
        assert weight.shape == shape
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert head.unembedding.weight.shape == (VOCABULARY + 1, 96)
    assert float(head.unembedding.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert torch.equal(head.norm.weight, torch.ones(192))
    objective.loss(model, objective.collate(EXAMPLES)).sum.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


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
@pytest.mark.parametrize("kind", [MaskedDiffusion, UniformMask, BeliefState, Semformer])
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
    [
        MultiTokenHeads(heads=2),
        SequentialHeads(),
        TokenOrder(),
        FutureBag(),
        FutureSummary(),
        NextLatent(),
        LseMtp(),
        Registers(**TOKENS),
    ],
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
        (lambda: TokenOrder(weight=True), "weight=True must be a number from 0; the default is 1.0"),
        (lambda: TokenOrder(weight=-1), "weight=-1 must be a number from 0; the default is 1.0"),
        (lambda: FutureBag(window=1), "window=1 must be a whole number from 2"),
        (lambda: SequentialHeads(depths=0), "depths=0 must be a whole number from 1 to 64; the default is 1"),
        (lambda: SequentialHeads(weight=-1), "weight=-1 must be a number from 0; the default is 0.3"),
        (lambda: MultiTokenHeads(mean_weight=-1), "mean_weight=-1 must be a number from 0; the default is None"),
        (lambda: JointMultiToken(window=1), "window=1 must be a whole number from 2 to 256"),
        (lambda: NextLatent(horizon=0), "horizon=0 must be a whole number from 1"),
        (lambda: NextLatent(kl_weight=-0.1), "kl_weight=-0.1 must be a number from 0; the default is 1.0"),
        (lambda: Registers(max_distance=0, **TOKENS), "max_distance=0 must be a whole number from 1"),
        (lambda: Registers(max_distance=1, **TOKENS), "max_distance=1 is below min_distance=2; raise it"),
        (
            lambda: Registers(prompt_attention="both"),
            "prompt_attention='both' is not a choice; give one of 'causal', 'bidir",
        ),
        (lambda: NextLatent(projection_factor=0), "projection_factor=0 must be a number above 0 to 64"),
        (lambda: Registers(share=2, **TOKENS), "share=2 must be a number from 0 to 1"),
        (lambda: FutureBag(states="last"), "states='last' is not a choice; give one of 'all', 'with_bag', 'first'"),
        (lambda: FutureBag(head=None), "head=None is not a choice; give one of 'linear', 'shared', 'block'"),
        (lambda: FutureBag(next_token_in_bag=1), "next_token_in_bag=1 must be True or False"),
        (
            lambda: FutureBag(token_weights=(1, -1)),
            r"token_weights=.* must be a sequence of one or more numbers from 0",
        ),
        (lambda: BeliefState(pair_fraction=0), "pair_fraction=0 must be a number above 0 to 1"),
        (lambda: BeliefState(minimum_gap=0), "minimum_gap=0 must be a whole number from 1"),
        (lambda: BeliefState(adjacent=""), "adjacent='' is not a choice; give one of 'end', 'tokens'"),
        (lambda: BeliefState(minimum_gap=6).collate(EXAMPLES), "minimum_gap=6 is wider than every target.*4 tokens"),
        (lambda: MaskedDiffusion(steps=0, **TOKENS), "steps=0 must be a whole number from 1"),
        (lambda: MaskedDiffusion(alpha=0, **TOKENS), "alpha=0 must be a number above 0"),
        (
            lambda: MaskedDiffusion(time_weight="1/t", **TOKENS),
            "time_weight='1/t' is not a choice; give one of 'linear'",
        ),
        (lambda: FutureSummary(weight=-1), "weight=-1 must be a number from 0; the default is 1.0"),
        (lambda: FutureSummary(teacher=""), "teacher='' must be the folder of an earlier run"),
        (lambda: FutureSummary(teacher=5), "teacher=5 must be the folder of an earlier run"),
        (lambda: Semformer(plan_tokens=0), "plan_tokens=0 must be a whole number from 1 to 256; the default is 4"),
        (lambda: Semformer(latent_size=0), "latent_size=0 must be a whole number from 1; the default is 32"),
        (lambda: Semformer(decoder_layers=0), "decoder_layers=0 must be a whole number from 1; the default is 6"),
        (lambda: Semformer(bag_weight=-1), "bag_weight=-1 must be a number from 0; the default is 0.0"),
        (lambda: MaskedDiffusion(unmasking=2, **TOKENS), "unmasking=2 is not a choice; give one of 'linear', 'cosine'"),
    ],
)
def test_options_out_of_range(make, message):
    """Catches: an option that trains something else in silence."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (NextToken, "positions", [1, 3]),
        (FutureBag, "token_weights", [0.5, 2.0]),
        (Ritf, "separators", [10, 11]),
        (Insertion, "special_ids", [14]),
    ],
)
def test_a_list_is_as_good_as_a_tuple(kind, name, values):
    """Catches: an objective that differs from itself once it was saved and read."""
    objective = kind(**{name: values})
    assert objective == kind(**{name: tuple(values)}) == read_objective(json.loads(json.dumps(objective.to_dict())))
    assert hash(objective) == hash(kind(**{name: tuple(values)}))


def test_a_bag_weighs_each_id_of_the_vocabulary(tiny_model):
    """Catches: weights of another tokenizer, cut or repeated in silence."""
    with pytest.raises(ValueError, match="token_weights has 2 numbers; the model's vocabulary has 15 ids"):
        FutureBag(token_weights=(1, 1)).attach(tiny_model("gpt2"))
