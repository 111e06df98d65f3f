"""Families of models, what makes the smallest one of each cheap on a CPU, and one with an objective's modules."""

import torch

SMALL = {
    "gpt2": {},
    "gpt_neox": {},
    "llama": {},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 8, "chunk_size": 16},
}


def with_modules(objective, model):
    """The model with the objective's modules, every parameter off its initial value."""
    torch.manual_seed(1)
    objective.attach(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
