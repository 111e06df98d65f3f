"""Push a finished run to the Hub, or push it again after a push that failed.

python examples/push.py outputs/deg2-path5-nodes50-gpt2-4x64-next_token-forward-seed0 --repo_id you/path-star
"""

from pathlib import Path

from nt_failures.experiments import command_line, script
from nt_failures.hub.push import push_run


def main(argv: list[str]) -> None:
    """Push, and print where it went."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("folder", type=Path, help="output folder of a run")
    parser.add_argument("--repo_id", required=True, help="NAMESPACE/NAME on the Hub")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch to push to, made if it is missing (default: main)")
    args = parser.parse_args(argv)
    print(push_run(args.folder, args.repo_id, private=args.private, revision=args.revision).repo_url)


if __name__ == "__main__":
    script.run(main, "interrupted; the same command pushes what is missing")
