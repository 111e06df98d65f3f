"""SearchMixin: a Trainer that makes its own model, anew for each training, as a search for hyperparameters needs."""

from typing import Any

from transformers import PreTrainedModel

from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.checks import check_needs


class SearchMixin:
    """`model_init` and `hyperparameter_search`, for a `transformers.Trainer` with a `training_objective`.

    Both are those of transformers. Each trial trains a new model under the same objective and reports what
    `compute_objective` makes of its last evaluation; names that a trial may set are the training arguments. The
    Objective is `training_objective`, as transformers keeps the value that a trial reached under `objective`.

    Example:
        ```python
        def space(trial):
            return {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)}


        trainer = ntf.ObjectiveTrainer(None, args, model_init=make_model, objective=objective, task=task, **splits)
        free = lambda metrics: metrics["eval_free/exact"]
        best = trainer.hyperparameter_search(space, free, n_trials=20, direction="maximize", backend="optuna")
        for name, value in best.hyperparameters.items():
            setattr(trainer.args, name, value)
        trainer.train()  # the best one, again and to the end
        ```
    """

    def prepare_model(self, model: PreTrainedModel | None) -> PreTrainedModel | None:
        """The model with the objective's modules attached; ValueError if it lacks what the objective needs.

        A model that `load` gave, or an earlier Trainer had, keeps the trained modules of its objective.
        """
        if model is not None:  # else one is still to be made
            check_needs(self.training_objective, model)
            if getattr(model, auxiliary_modules.OWNER, None) == self.training_objective:
                return model
            had = auxiliary_modules.has_modules(model)
            self.training_objective.attach(model)
            self.training_objective.prepare(model)
            if auxiliary_modules.has_modules(model) and not had:
                setattr(model, auxiliary_modules.OWNER, self.training_objective)
        return model

    def call_model_init(self, trial: Any = None) -> PreTrainedModel:
        """As in `transformers.Trainer`; the model is prepared as one that was given."""
        return self.prepare_model(super().call_model_init(trial))
