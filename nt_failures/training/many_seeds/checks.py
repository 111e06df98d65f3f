"""Which Trainers can be trained together: seeds of one recipe, with arguments that are known to work."""

from collections.abc import Sequence

from nt_failures.training.budget import changed_arguments
from nt_failures.training.trainer import ObjectiveTrainer

NOT_MADE = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch", "logging_strategy": "epoch"}
"""Values of known arguments that do not work."""

KNOWN = {"optimizer", "learning_rate", "muon_learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"}
KNOWN |= {"max_steps", "num_train_epochs", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "max_grad_norm"}
KNOWN |= {"seed", "per_device_train_batch_size", "per_device_eval_batch_size", "tf32", "use_cpu", "save_strategy"}
KNOWN |= {"do_eval", "eval_strategy", "eval_steps", "full_decode", "sample_rows", "stop_when_solved"}
KNOWN |= {"disable_tqdm", "logging_strategy", "logging_steps", "logging_first_step", "overwrite_output_dir"}
"""Training arguments that may differ from their defaults; others change the Trainer's loop, which is not used here."""


def check_together(trainers: Sequence[ObjectiveTrainer]) -> None:
    """ValueError unless `train_together` gives these Trainers what each one's `train()` would."""
    if not trainers:
        raise ValueError("no trainers were given; give one for each seed.")
    first, *others = ({**changed_arguments(trainer.args), "objective": trainer.objective} for trainer in trainers)
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
