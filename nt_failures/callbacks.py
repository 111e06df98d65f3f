"""Callbacks: a progress bar that shows the live exact accuracy."""

from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments


class LiveProgressCallback(ProgressCallback):
    """The Trainer's progress bar with the last loss, exact accuracy and decision accuracy behind it.

    Use it in place of the stock bar: `trainer.remove_callback(ProgressCallback); trainer.add_callback(...)`. Logs stay
    in `trainer.state.log_history` and go to the trackers; they are not written over the bar.
    """

    def __init__(self, max_str_len: int = 100):
        super().__init__(max_str_len)
        self.shown: dict[str, str] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures behind the bar."""
        names = {"loss": "loss", "eval_free/exact": "exact", "eval_decision": "decision"}
        self.shown |= {short: f"{logs[name]:.3f}" for name, short in names.items() if name in (logs or {})}
        if state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.set_postfix(self.shown, refresh=True)

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """No second bar for the short evaluations during training."""
