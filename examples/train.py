"""Train a stock causal LM on a lookahead task under any objective, and say whether and why it failed.

accelerate launch examples/train.py                                   # the quickstart recipe
accelerate launch examples/train.py --order reversed                  # one change to it
accelerate launch examples/train.py examples/recipes/hybrid.yaml --seed 1

Ctrl-C and SIGTERM save a checkpoint; the same command with --resume goes on from it. The steps of a run are in
nt_failures/experiments/run.py.
"""

from pathlib import Path

from nt_failures.experiments import command_line, script

QUICKSTART = Path(__file__).parent / "recipes" / "quickstart.yaml"


def main(argv: list[str]) -> object:
    """One run: parse, build, train, test, save, push. Returns its `RunResults`, as in results.json."""
    args = command_line.parse(argv, default_recipe=QUICKSTART, prog="examples/train.py [RECIPE.yaml]")
    from nt_failures.experiments import run  # imports torch, for which --help need not wait

    return run.run(args, program="examples/train.py")


if __name__ == "__main__":
    script.run(main, script.KEPT)
