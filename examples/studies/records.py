"""Write the tables of RECORDS.md from the studies beside it: the fewest steps and FLOPs in which all seeds solved.

python examples/studies/records.py                  # examples/results/RECORDS.md, from the logs beneath its folder
python examples/studies/records.py --check          # say whether each line is what its log gives
"""

import argparse
import sys
from pathlib import Path

from nt_failures.experiments import command_line, script
from nt_failures.experiments.study import records

BEGIN, END = "<!-- records: begin -->\n", "<!-- records: end -->"
PAGE = Path(__file__).parent.parent / "results" / "RECORDS.md"


def main(argv: list[str]) -> None:
    """Make the tables, and write or compare them."""
    args = parse(argv)
    before, begin, rest = args.page.read_text(encoding="utf-8").partition(BEGIN)
    stands, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{args.page} has no lines {BEGIN.strip()} and {END}, between which the tables stand.")
    root = args.page.parent
    if not any(root.rglob("results.jsonl")):
        raise ValueError(f"no results.jsonl lies beneath {root}; give the page that lies above its logs.")
    tables = records.tables(records.entries(root), root)
    if not args.check:
        args.page.write_text(before + begin + tables + end + after, encoding="utf-8")
        sys.stdout.write(f"{tables}{args.page}\n")
    elif stands == tables:
        sys.stdout.write(f"{args.page} is as its logs say\n")
    else:
        wrong = [line for line in stands.splitlines() if line not in tables.splitlines()]
        missing = [line for line in tables.splitlines() if line not in stands.splitlines()]
        said = f"; its logs do not give: {wrong[0]}" if wrong else f"; it lacks: {missing[0]}" if missing else ""
        raise ValueError(f"{args.page} is not what its logs give{said}; run again without --check.")


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("page", type=Path, nargs="?", default=PAGE, help="the page, with the logs beneath its folder")
    parser.add_argument("--check", action="store_true", help="change nothing; an error unless the page is right")
    return parser.parse_args(argv)


if __name__ == "__main__":
    script.run(main)
