"""Families of models, and what makes the smallest one of each cheap on a CPU."""

SMALL = {
    "gpt2": {},
    "gpt_neox": {},
    "llama": {},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 8, "chunk_size": 16},
}
