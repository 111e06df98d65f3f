"""Train many seeds of one recipe at once in one process: for a GPU, which one small model does not fill.

python examples/studies/train_seeds.py examples/recipes/hybrid.yaml --seeds 0 1 2 3 --output_dir outputs/hybrid-seeds

Each seed gets the result that examples/train.py gives it alone, within floating-point noise, and a run folder of its
own, `OUTPUT_DIR/seedN`. On a CPU run processes instead: examples/studies/reproduce.py --jobs.
"""

from nt_failures.experiments import run_seeds, script


def main(argv: list[str]) -> None:
    """Train, test and save all seeds; the steps are in nt_failures/experiments/run_seeds.py."""
    run_seeds.main(argv, description=__doc__)


if __name__ == "__main__":
    script.run(main)
