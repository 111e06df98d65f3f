"""train_together: the training loop of many Trainers at once, one for each seed of a recipe.

Each Trainer draws its batches, logs, evaluates and keeps its state as it does alone; the steps of all are taken in one
pass over a stack of their weights.

Shapes: K seeds.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from nt_failures.objectives.losses import Loss
from nt_failures.training import divergence
from nt_failures.training.budget import changed_arguments
from nt_failures.training.many_seeds.stack import Batch, Stack
from nt_failures.training.trainer import ObjectiveTrainer

NOT_MADE = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch", "logging_strategy": "epoch"}
"""Values of known arguments that do not work."""

KNOWN = {"optimizer", "learning_rate", "muon_learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"}
KNOWN |= {"max_steps", "num_train_epochs", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "max_grad_norm"}
KNOWN |= {"seed", "per_device_train_batch_size", "per_device_eval_batch_size", "tf32", "use_cpu", "save_strategy"}
KNOWN |= {"do_eval", "eval_strategy", "eval_steps", "full_decode", "sample_rows", "stop_when_solved"}
KNOWN |= {"disable_tqdm", "logging_strategy", "logging_steps", "logging_first_step", "overwrite_output_dir"}
"""Training arguments that may differ from their defaults; others change the Trainer's loop, which is not used here."""


def train_together(trainers: Sequence[ObjectiveTrainer]) -> list[FloatingPointError | None]:
    """Train each Trainer's model as its own `train()` would; returns of each the error with which it diverged, or None.

    A seed sees exactly the data it sees alone, in that order, and its result is the same up to the rounding of sums in
    another order. A seed that diverges, or that a callback stops, is left where it is, and the others go on. The
    trainers are alike but for `args.seed` and where they write to, and not trained yet.

    Raises:
        ValueError: trainers that differ in more, or an argument or a model that is not made for this.

    Example:
        >>> import datasets
        >>> import nt_failures as ntf
        >>> task = ntf.PathStar(degree=2, path_length=3, num_nodes=10)
        >>> tokenizer = ntf.word_level_tokenizer(task)
        >>> text = task.render(task.block(0, "train", 0, rows=32))
        >>> rows = datasets.Dataset.from_dict({name: column.to_list() for name, column in text.items()})
        >>> rows = ntf.tokenize(rows, tokenizer)
        >>> trainers = []
        >>> for seed in (0, 1):
        ...     model = ntf.load_model("gpt2-1x16", tokenizer, max_length=32)
        ...     options = {"max_steps": 2, "seed": seed, "report_to": [], "use_cpu": True, "save_strategy": "no"}
        ...     args = ntf.ObjectiveTrainingArguments(f"outputs/seed{seed}", **options)
        ...     given = {"objective": ntf.NextToken.from_tokenizer(tokenizer), "processing_class": tokenizer}
        ...     trainers.append(ntf.ObjectiveTrainer(model, args, train_dataset=rows, **given))
        >>> train_together(trainers)
        [None, None]
        >>> [trainer.state.global_step for trainer in trainers]
        [2, 2]
    """
    check_together(trainers)
    run = _Run(trainers)
    run.train()
    return run.errors


def check_together(trainers: Sequence[ObjectiveTrainer]) -> None:
    """ValueError unless `train_together` gives these Trainers what each one's `train()` would."""
    if not trainers:
        raise ValueError("no trainers were given; give one for each seed.")
    first, *others = (
        {**changed_arguments(trainer.args), "objective": trainer.training_objective} for trainer in trainers
    )
    for given in others:
        if differing := sorted(name for name in {*first, *given} - {"seed"} if first.get(name) != given.get(name)):
            raise ValueError(f"many seeds at once differ in their seed alone; these differ in {differing[0]}.")
    # Some that are None by default are False once TrainingArguments has looked at them.
    unknown = sorted(name for name, value in first.items() if name not in {*KNOWN, "objective"} and value is not False)
    if bad := [name for name, value in NOT_MADE.items() if first.get(name) == value] + unknown:
        made = f"{bad[0]}={first[bad[0]]!r} is not made for many seeds at once"
        raise ValueError(f"{made}; leave it out, or train these seeds as processes.")
    args = trainers[0].args
    if args.save_strategy != "no":
        kept = f"save_strategy={args.save_strategy.value!r}: seeds that are trained at once keep no checkpoints"
        raise ValueError(f"{kept}; give --save_strategy no, or train these seeds as processes.")
    if args.world_size > 1 or args.n_gpu > 1:
        raise ValueError("many seeds at once take one process and one device; start them without a launcher.")


class _Run:
    """The state of `train_together`: the stack, its optimizer and schedule, and the seeds that are still running."""

    def __init__(self, trainers: Sequence[ObjectiveTrainer]):
        self.trainers = trainers
        self.lead, self.args = trainers[0], trainers[0].args
        for trainer in trainers:
            trainer.accelerator.prepare_model(trainer.model)  # as `train` does, so that no evaluation does it
        self.stack = Stack([trainer.model for trainer in trainers], self.lead.training_objective)
        self.optimizer = self.stack.optimizer(self.lead.create_optimizer())
        self.loaders = [_loader(trainer) for trainer in trainers]
        *_, self.steps_in_epoch, self.max_steps = self.lead.set_initial_training_values(self.args, self.loaders[0])
        self.scheduler = self.lead.create_scheduler(num_training_steps=self.max_steps, optimizer=self.optimizer)
        self.errors: list[FloatingPointError | None] = [None] * len(trainers)
        self.running = list(range(len(trainers)))
        self.steps = 0  # taken; a seed that has left stays where it is
        self.watch = divergence.LossWatch()
        self.norms, self.rate = None, 0.0  # of the last step
        self.sums, self.logged_at = Loss(0, 0, {}), 0  # of the means, since the last log: (K,), on the device

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
        self._count_flops(batches)
        for i in self.running:
            self.trainers[i].gradient_shares.see(batches[i])
        loss = self.stack.losses(batches)
        means = loss.sum / torch.tensor(items).to(loss.sum.device, non_blocking=True)
        means.sum().backward()  # the gradient of one seed's weights is that of its own loss
        self.norms = self._clip() if self.args.max_grad_norm > 0 else None
        self.steps += 1
        self.rate = self.scheduler.get_last_lr()[0]
        self.watch.see(means, self.steps, self.rate)
        parts = {name: self.sums.parts.get(name, 0) + part.detach() for name, part in loss.parts.items()}
        self.sums = Loss(self.sums.sum + means.detach(), self.sums.count + loss.count, self.sums.parts | parts)
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
        """Count each seed's step on a batch of a new shape as its Trainer would, on one model."""
        model = self.lead.model
        for trainer, batch in zip(self.trainers, batches, strict=True):
            with trainer.step_flops.counting(batch) as new:
                if new:
                    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
                    self.lead.training_objective.loss(model, inputs).sum.backward()
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
                self._log(i)
            if trainer.control.should_evaluate:
                trainer.evaluate()
            if trainer.control.should_training_stop:
                self._end(i)
        if logged:
            self.sums, self.logged_at = Loss(0, 0, {}), self.steps

    def _log(self, index: int) -> None:
        """Log one seed's means since the last log through its own Trainer, with the norm of its last gradient."""
        trainer, (means, items, parts) = self.trainers[index], self.sums
        trainer.add_to_log(Loss(means[index], items[index], {name: part[index] for name, part in parts.items()}))
        norm = {} if self.norms is None else {"grad_norm": float(self.norms[index])}
        mean = float(means[index]) / (self.steps - self.logged_at)
        trainer.log({"loss": mean, **norm, "learning_rate": self.rate})

    def _take_out_diverged(self) -> None:
        for i, (step, rate) in self.watch.first_bad(gather=lambda steps: steps).items():
            if i in self.running:
                self._end(i)
                self.errors[i] = divergence.diverged("the loss", step, rate, self.args, None)

    def _end(self, index: int) -> None:
        """A seed's training is over; one with a weight that is NaN or infinite has diverged."""
        self.stack.release(index)
        self.running.remove(index)
        if not divergence.finite(self.trainers[index].model, self.trainers[index].accelerator):
            self.errors[index] = divergence.diverged("a weight", self.steps, self.rate, self.args, None)


def _tell(trainer: ObjectiveTrainer, event: str) -> None:
    notify = getattr(trainer.callback_handler, event)
    trainer.control = notify(trainer.args, trainer.state, trainer.control)


def _loader(trainer: ObjectiveTrainer) -> torch.utils.data.DataLoader:
    """The Trainer's own loader, with batches left on the CPU, where they are stacked."""
    torch.manual_seed(trainer.args.seed)  # the sampler is seeded with what the generator was last seeded with
    loader = trainer.get_train_dataloader()
    loader.device = None
    return loader
