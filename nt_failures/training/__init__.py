"""ObjectiveTrainer and what it needs: checkpointing, publishing, optimizers, callbacks, cost."""
