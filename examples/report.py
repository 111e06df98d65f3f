"""Compare finished runs: one table and one figure of what differs in their arguments and in their results.

    python examples/report.py outputs/RUN outputs/ANOTHER_RUN you/a-run-on-the-hub
    python examples/report.py outputs/* --csv                        # a line for each finished run, beside the table
    python examples/report.py examples/results/quickstart examples/results/quickstart-reversed      # two studies

A run is the folder or the Hub id of a finished one; a study's folder stands for all of its runs. Runs that differ in
the seed alone share a row.
"""

import argparse
import csv
import sys
from pathlib import Path

from nt_failures import registry
from nt_failures.experiments import command_line, script
from nt_failures.experiments.study import cli, differences, figures


def main(argv: list[str]) -> None:
    """Read the runs, write report.md and report.png, and report.csv if asked."""
    args = parse(argv)
    if args.import_module is not None:
        registry.import_own(args.import_module)
    names = [*dict.fromkeys(args.runs)]
    empty = [name for name in names if len(names) > 1 and Path(name).exists() and not differences.has_runs(Path(name))]
    if len(empty) == len(names):
        raise ValueError(f"none of {', '.join(names)} holds a finished run; give the folder or the Hub id of one.")
    if empty:
        print(f"passed over, as they hold no finished run: {', '.join(empty)}", file=sys.stderr)
    runs = [run for name in names if name not in empty for run in differences.read_runs(name)]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    page, picture = args.output_dir / "report.md", args.output_dir / "report.png"
    cli.write_report(page, differences.table(runs), picture, figures.side_by_side(differences.groups(runs), args.title))
    if args.csv:
        with open(args.output_dir / "report.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(differences.rows(runs))


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder or Hub id of a finished run, or a study's folder"
    )
    parser.add_argument("--csv", action="store_true", help="write report.csv, too: a line for each run, for pandas")
    parser.add_argument("--import_module", help="module of your own objective or task, which no file can import")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs") / "report", help="(%(default)s)")
    parser.add_argument("--title", default="", help="title of the figure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    script.run(main)
