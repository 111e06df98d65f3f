"""Arguments of the smallest run."""

from nt_failures.experiments.command_line import parse

TINY = ["--degree", "2", "--path_length", "3", "--num_nodes", "10", "--model", "gpt2-1x16", "--use_cpu", "true"]


def arguments(folder, *flags):
    return parse([*TINY, "--output_dir", str(folder), *flags])
