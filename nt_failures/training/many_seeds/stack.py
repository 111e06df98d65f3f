"""Stack: the weights of several models of one shape, the losses of all of them in one pass, and their optimizer.

Shapes: K models (one for each seed), B rows, S columns.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch.func import functional_call, vmap
from transformers import PreTrainedModel

from nt_failures.data.batches import FIRST_LABEL, first_label
from nt_failures.objectives.base import Objective
from nt_failures.objectives.losses import Batch, Loss


class Stack:
    """K models of one shape whose weights stand in one tensor (K, ...) each.

    The models stay usable: their parameters are views into the stack, so each can be evaluated or saved at any time.
    Every operation runs on each one's own slice, so a NaN in one reaches no other.

    Args:
        models: of one shape (else ValueError), on their device, with what the objective attaches.
        objective: whose loss is trained.

    Example:
        >>> import nt_failures as ntf
        >>> tokenizer = ntf.word_level_tokenizer(ntf.PathStar(degree=2, path_length=3, num_nodes=10))
        >>> models = [ntf.load_model("gpt2-1x16", tokenizer, max_length=32) for seed in range(2)]
        >>> stack = Stack(models, ntf.NextToken.from_tokenizer(tokenizer))
        >>> stack.weights["transformer.wpe.weight"].shape  # (K, positions, width)
        torch.Size([2, 32, 16])
    """

    def __init__(self, models: Sequence[PreTrainedModel], objective: Objective):
        own = [dict(model.named_parameters()) for model in models]
        shapes = [{name: p.shape for name, p in parameters.items()} for parameters in own]
        if any(other != shapes[0] for other in shapes):
            raise ValueError(f"{len(models)} models of different shapes cannot be stacked; give models of one shape.")
        # On a CPU, for which this is not made, attention is then a loop over the seeds: as fast as one after the other.
        warnings.filterwarnings("ignore", "(?s).*batching rule for aten::_scaled_dot_product_flash_attention_for_cpu")
        self.models = models
        self._call = _LossOf(models[0], objective)
        self.weights: dict[str, torch.Tensor] = {}
        for name, first in own[0].items():
            stacked = torch.stack([parameters[name].detach() for parameters in own])
            self.weights[name] = stacked.requires_grad_(first.requires_grad)
            for parameters, view in zip(own, stacked.detach(), strict=True):
                parameters[name].data = view

    def release(self, index: int) -> None:
        """Give one model weights of its own; what is trained from here on no longer reaches it."""
        for parameter in self.models[index].parameters():
            parameter.data = parameter.data.clone()

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """That of the first model, not used yet, from now on of the stacks; it is changed and returned.

        AdamW works number by number and `StackedMuon` matrix by matrix, as they do on each model.
        """
        stacks = {p: self.weights[name] for name, p in self.models[0].named_parameters()}
        for group in optimizer.param_groups:
            group["params"] = [stacks[p] for p in group["params"]]
        return optimizer

    def losses(self, batches: Sequence[Batch]) -> Loss:
        """Losses of the K models, each on its own batch, on the CPU: `Loss` whose entries are (K,) instead of scalars.

        ValueError where the objective or the model does something that cannot be done for many models at once.
        """
        groups = defaultdict(list)
        for i, batch in enumerate(batches):  # whose answers may differ in length
            groups[tuple((name, t.shape) for name, t in batch.items())].append(i)
        if len(groups) == 1:
            return self._together(self.weights, batches)
        found = []
        for members in groups.values():
            part = {name: weights[members] for name, weights in self.weights.items()}
            found.append(self._together(part, [batches[i] for i in members]))
        order = torch.tensor([i for members in groups.values() for i in members]).argsort().to(found[0].sum.device)
        parts = {name: torch.cat([loss.parts[name] for loss in found])[order] for name in found[0].parts}
        return Loss(*(torch.cat([loss[field] for loss in found])[order] for field in (0, 1)), parts)

    def _together(self, weights: Mapping[str, torch.Tensor], batches: Sequence[Batch]) -> Loss:
        device = next(iter(weights.values())).device
        shared, own = {}, {}
        for name, first in batches[0].items():
            # What is the same for all seeds is not stacked: transformers asks of a mask whether it hides anything.
            if all(torch.equal(batch[name], first) for batch in batches[1:]):
                shared[name] = first.to(device, non_blocking=True)
            else:
                own[name] = torch.stack([batch[name] for batch in batches]).to(device, non_blocking=True)
        shared[FIRST_LABEL] = min(first_label(batch) for batch in batches)

        def loss(weights_: dict[str, torch.Tensor], own_: dict[str, torch.Tensor]) -> Loss:
            return functional_call(self._call, weights_, ({**shared, **own_},))

        try:
            named = {f"model.{name}": stacked for name, stacked in weights.items()}
            return vmap(loss, randomness="error")(named, own)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            pair = f"{type(self._call.objective).__name__} and {type(self.models[0]).__name__}"
            why = f"cannot be trained for many seeds at once ({str(error).splitlines()[0]})"
            raise ValueError(f"{pair} {why}; train these seeds as processes instead.") from error


class _LossOf(torch.nn.Module):
    """An objective's loss as the forward pass of a module, whose weights `functional_call` can replace."""

    def __init__(self, model: PreTrainedModel, objective: Objective):
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective.loss(self.model, batch)
