"""train_together: the training loop of many Trainers at once, one for each seed of a recipe.

Each Trainer draws its batches, logs, evaluates and keeps its state as it does alone; the steps of all are taken in one
pass over a stack of their weights.

Shapes: K seeds.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from nt_failures.objectives.base import Loss
from nt_failures.training import divergence
from nt_failures.training.many_seeds.checks import check_together
from nt_failures.training.many_seeds.stack import Batch, Stack
from nt_failures.training.trainer import ObjectiveTrainer


def train_together(trainers: Sequence[ObjectiveTrainer]) -> list[FloatingPointError | None]:
    """Train each Trainer's model as its own `train()` would; returns of each the error with which it diverged, or None.

    A seed sees exactly the data it sees alone, in that order, and its result is the same up to the rounding of sums in
    another order. A seed that diverges, or that a callback stops, is left where it is, and the others go on. The
    trainers are alike but for `args.seed` and where they write to, and not trained yet; ValueError for an argument or a
    model that is not made for this.
    """
    check_together(trainers)
    run = _Run(trainers)
    run.train()
    return run.errors


class _RunningLoss:
    """Losses since the last log, all (K,), on the device: reading each step would stall a GPU."""

    def __init__(self) -> None:
        self.steps, self.losses, self.items = 0, 0, 0
        self.parts: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, means: torch.Tensor, loss: Loss) -> None:
        """Note a step: its mean losses, and its sums."""
        self.steps += 1
        self.losses = self.losses + means
        self.items = self.items + loss.count
        for name, part in loss.parts.items():
            self.parts[name] = self.parts.get(name, 0) + part

    def log(self, trainer: ObjectiveTrainer, index: int, norms: torch.Tensor | None, learning_rate: float) -> None:
        """Log one seed's means through its own Trainer, with the norm of its last gradient."""
        norm = {} if norms is None else {"grad_norm": float(norms[index])}
        parts = {name: part[index] for name, part in self.parts.items()}
        trainer.add_to_log(Loss(self.losses[index], self.items[index], parts))
        trainer.log({"loss": float(self.losses[index]) / self.steps, **norm, "learning_rate": learning_rate})


class _Run:
    """The state of `train_together`: the stack, its optimizer and schedule, and the seeds that are still running."""

    def __init__(self, trainers: Sequence[ObjectiveTrainer]):
        self.trainers = trainers
        self.lead, self.args = trainers[0], trainers[0].args
        for trainer in trainers:
            trainer.accelerator.prepare_model(trainer.model)  # as `train` does, so that no evaluation does it
        self.stack = Stack([trainer.model for trainer in trainers], self.lead.objective)
        self.optimizer = self.stack.optimizer(self.lead.create_optimizer())
        self.loaders = [_loader(trainer) for trainer in trainers]
        *_, self.steps_in_epoch, self.max_steps = self.lead.set_initial_training_values(self.args, self.loaders[0])
        self.scheduler = self.lead.create_scheduler(num_training_steps=self.max_steps, optimizer=self.optimizer)
        self.errors: list[FloatingPointError | None] = [None] * len(trainers)
        self.running = list(range(len(trainers)))
        self.steps = 0  # taken; a seed that has left stays where it is
        self.watch = divergence.LossWatch()
        self.sums = _RunningLoss()
        self.norms, self.rate = None, 0.0  # of the last step

    def train(self) -> None:
        for trainer in self.trainers:
            trainer.state.max_steps = self.max_steps
            trainer.state.num_train_epochs = math.ceil(self.max_steps / self.steps_in_epoch)
            trainer.state.train_batch_size = self.args.train_batch_size
            trainer.state.compute_steps(trainer.args, self.max_steps)
            _tell(trainer, "on_train_begin")
        for epoch in range(self.lead.state.num_train_epochs):
            for trainer, loader in zip(self.trainers, self.loaders, strict=True):
                _tell(trainer, "on_epoch_begin")
                loader.set_epoch(epoch)
            for step, (batches, items) in enumerate(self._batches(), start=1):
                self._step(batches, items)
                self._advance(epoch + step / self.steps_in_epoch, len(batches[0]["input_ids"]))
                if not self.running or self.steps >= self.max_steps:
                    break
            if not self.running:
                break
        self._take_out_diverged()
        for i in list(self.running):
            self._end(i)
        for trainer in self.trainers:
            _tell(trainer, "on_train_end")

    def _batches(self) -> Iterator[tuple[list[Batch], list[int]]]:
        """Each seed's batches of an epoch, and the labels in each that its loss is divided by."""
        iterators = list(map(iter, self.loaders))
        while True:
            drawn = [t.get_batch_samples(it, 1, "cpu") for t, it in zip(self.trainers, iterators, strict=True)]
            if not all(batches for batches, _ in drawn):
                return
            yield [{k: v.cpu() for k, v in batches[0].items()} for batches, _ in drawn], [int(n) for _, n in drawn]

    def _step(self, batches: list[Batch], items: list[int]) -> None:
        """Forward, backward and the optimizer's step, for all seeds."""
        self.lead.model.train()  # it stands for all of them
        if self.steps == 0:
            self._count_flops(batches)
        loss = self.stack.losses(batches)
        means = loss.sum / torch.tensor(items).to(loss.sum.device, non_blocking=True)
        means.sum().backward()  # the gradient of one seed's weights is that of its own loss
        self.norms = self._clip() if self.args.max_grad_norm > 0 else None
        self.steps += 1
        self.rate = self.scheduler.get_last_lr()[0]
        self.watch.see(means, self.steps, self.rate)
        self.sums.add(means, loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def _clip(self) -> torch.Tensor:
        """Scale each seed's gradient as `torch.nn.utils.clip_grad_norm_`; returns the norms before, (K,)."""
        grads = [weights.grad for weights in self.stack.weights.values() if weights.grad is not None]
        norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
        scale = (self.args.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))
        return norms

    def _count_flops(self, batches: list[Batch]) -> None:
        """Count the first step of each seed as its Trainer would, on one model."""
        model = self.lead.model
        for trainer, batch in zip(self.trainers, batches, strict=True):
            with trainer.step_flops.counting(len(batch["input_ids"])):
                inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
                self.lead.objective.loss(model, inputs).sum.backward()
            model.zero_grad()

    def _advance(self, epoch: float, rows: int) -> None:
        """Each seed's state and callbacks behind a step; what they ask for is done."""
        for trainer in (self.trainers[i] for i in self.running):
            trainer.state.global_step += 1
            trainer.state.epoch = epoch
            trainer.state.total_flos += trainer.step_flops.of(rows)
            _tell(trainer, "on_step_end")
        controls = [self.trainers[i].control for i in self.running]
        logged = any(control.should_log for control in controls)
        looked_at = logged or any(c.should_evaluate or c.should_training_stop for c in controls)
        if looked_at or self.args.device.type == "cpu":
            self._take_out_diverged()
        for i in list(self.running):
            trainer = self.trainers[i]
            if trainer.control.should_log:
                self.sums.log(trainer, i, self.norms, self.rate)
            if trainer.control.should_evaluate:
                trainer.evaluate()
            if trainer.control.should_training_stop:
                self._end(i)
        if logged:
            self.sums = _RunningLoss()

    def _take_out_diverged(self) -> None:
        for i, (step, rate) in self.watch.first_bad(gather=lambda steps: steps).items():
            if i in self.running:
                self._leave(i)
                self.errors[i] = divergence.diverged("the loss", step, rate, self.args, None)

    def _end(self, index: int) -> None:
        """A seed's training is over; one with a weight that is NaN or infinite has diverged."""
        self._leave(index)
        if not divergence.finite(self.trainers[index].model, self.trainers[index].accelerator):
            self.errors[index] = divergence.diverged("a weight", self.steps, self.rate, self.args, None)

    def _leave(self, index: int) -> None:
        self.stack.release(index)
        self.running.remove(index)


def _tell(trainer: ObjectiveTrainer, event: str) -> None:
    notify = getattr(trainer.callback_handler, event)
    trainer.control = notify(trainer.args, trainer.state, trainer.control)


def _loader(trainer: ObjectiveTrainer) -> torch.utils.data.DataLoader:
    """The Trainer's own loader, with batches left on the CPU, where they are stacked."""
    torch.manual_seed(trainer.args.seed)  # the sampler is seeded with what the generator was last seeded with
    loader = trainer.get_train_dataloader()
    loader.device = None
    return loader
