"""What a model gets right: predictions, metrics, rewards and the `evaluate` module."""
