"""LoadingMixin: the batches on which an ObjectiveTrainer trains and is evaluated."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from nt_failures.data.passes import Passes
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.objectives.checks import check_room
from nt_failures.training.loader_workers import spare_workers


class LoadingMixin:
    """Loaders, for a `transformers.Trainer` with the attributes of an `ObjectiveTrainer`."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As in `transformers.Trainer`, whose persistent workers would serve other data sets the first one's rows."""
        if self._is_own(eval_dataset):
            return super().get_eval_dataloader(eval_dataset)
        return self.get_test_dataloader(eval_dataset)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> torch.utils.data.Sampler | None:
        """The curriculum, where there is one."""
        return super()._get_train_sampler(*args, **kwargs) if self.curriculum is None else self.curriculum

    def _get_dataloader(self, dataset: Any, *args: Any, is_training: bool = False, **kwargs: Any) -> DataLoader:
        """Batches of the objective; for an evaluation of all rows, with the answers beside them."""
        kept = (self.data_collator, self.args.dataloader_drop_last)
        if not is_training:
            self.data_collator, self.args.dataloader_drop_last = self._collate_answers, False
        if isinstance(dataset, torch.utils.data.IterableDataset):
            if is_training:
                dataset = Passes(dataset, numbered=self._collates)
            elif self.args.world_size > 1:  # which count each row once only of what has a length
                dataset = list(dataset)
        elif self._collates:
            if rows := TokenDataset.of(dataset):
                check_room(self.training_objective, self.accelerator.unwrap_model(self.model), rows)
            dataset = rows or dataset
        try:
            loader = super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)
            spare_workers(loader)
            return loader
        finally:
            self.data_collator, self.args.dataloader_drop_last = kept
