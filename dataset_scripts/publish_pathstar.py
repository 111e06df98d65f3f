"""Publish nt_failures/pathstar, or another task, on the Hub: Parquet of the named configs, a card and a figure.

    python dataset_scripts/publish_pathstar.py --dry_run                     # write the folder, look at its README.md
    python dataset_scripts/publish_pathstar.py                               # write it if need be, and push
    python dataset_scripts/publish_pathstar.py --configs deg2-path5-nodes50 --repo_id YOU/pathstar --private
    python dataset_scripts/publish_pathstar.py --task addition --dry_run     # a task other than path-star graphs

Afterwards `load_dataset("nt_failures/pathstar", "deg2-path5-nodes50")` gives the same rows without this package as with
it. The folder and the push are each made whole or not at all; what is there already is not made again.
"""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from dataset_card import MARK, megabytes
from dataset_folder import Folder, prepare
from datasets import disable_progress_bars
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi, get_token
from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError, RepositoryNotFoundError
from publication import Publication

from nt_failures.hub.push import HUB_ERRORS, reason, status_of
from nt_failures.tasks import TASKS


class Parser(argparse.ArgumentParser):
    """Its errors repeat what was typed, which may be a token."""

    def error(self, message: str) -> None:
        super().error(redact(message))


def parse(argv: list[str]) -> argparse.Namespace:
    """Options of the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--task", default="path_star", help=f"one of {', '.join(TASKS)} (%(default)s)")
    parser.add_argument("--configs", nargs="+", default=[], metavar="CONFIG", help="default: every named config")
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--num_{split}", type=int, help="rows of each config; default: the config's own number")
    parser.add_argument("--max_shard_size", default=Publication.max_shard_size, help="of a file (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="(outputs/pathstar, or the name of the task)")
    parser.add_argument("--repo_id", help="(nt_failures/pathstar, or the name of the task)")
    parser.add_argument("--private", action="store_true", help="make the repo private if it is new")
    parser.add_argument("--dry_run", action="store_true", help="write the folder and push nothing")
    return parser.parse_args(argv)


def run(argv: list[str]) -> None:
    """`main`, whose expected errors end the process with one line and status 1."""
    try:
        main(argv)
    except (ValueError, OSError) as error:
        sys.exit(redact(f"error: {error}"))
    except KeyboardInterrupt:
        sys.exit("stopped. The same command goes on.")


def main(argv: list[str]) -> None:
    """Parse, check the Hub, build, push."""
    args = parse(argv)
    names = ("num_train", "num_validation", "num_test", "max_shard_size", "repo_id", "task")
    publication = Publication(tuple(args.configs), **{name: vars(args)[name] for name in names})
    args.repo_id = publication.repo_id
    args.output_dir = args.output_dir or Path("outputs") / publication.builder.REPO_ID.split("/")[-1]
    disable_progress_bars()  # of each file; that of the configs stays
    api = HfApi()
    if not args.dry_run:
        with explained(args):
            check_hub(api, publication, args.private)
    folder = prepare(publication, args.output_dir)
    parquet = sum(name.endswith(".parquet") for name in folder.files)
    written = "is complete from an earlier run" if folder.reused else "written"
    others = "README.md and a figure" if "graph.png" in folder.files else "README.md"
    print(f"{args.output_dir} {written}: {parquet} Parquet files, {others}, {megabytes(folder.size)}")
    if args.dry_run:
        print(
            f"nothing pushed (--dry_run). Read {args.output_dir / 'README.md'}, then run the same command without "
            "--dry_run."
        )
    else:
        with explained(args):
            print(push(api, publication.repo_id, folder, args.private))


def check_hub(api: HfApi, publication: Publication, private: bool) -> None:
    """Find out before the long build whether this push may go there."""
    if get_token() is None:
        raise LocalTokenNotFoundError
    repo_id = publication.repo_id
    try:
        info = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        return
    if private and not info.private:
        raise ValueError(f"{repo_id} exists and is public; leave --private out, or give another --repo_id.")
    if "README.md" not in {file.rfilename for file in info.siblings}:
        return
    card = DatasetCard.load(api.hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=info.sha))
    if MARK not in card.content:
        raise ValueError(
            f"{repo_id} exists, and its card was not written by this script; it is left alone. Give another --repo_id, "
            "or delete README.md there first."
        )
    own = {builder.config.name for builder in publication.builders()}
    if others := sorted({config["config_name"] for config in card.data.to_dict().get("configs", [])} - own):
        raise ValueError(
            f"{repo_id} also has {', '.join(others)}, which this push would take out of its card. Name them in "
            "--configs, too (or leave --configs out for all), or give another --repo_id."
        )


def push(api: HfApi, repo_id: str, folder: Folder, private: bool) -> str:
    """One commit with all files: readers see all of it or nothing. Returns what to tell.

    Not `upload_folder`, which may make several commits, with half of the files visible in between.
    """
    api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
    before = api.dataset_info(repo_id)
    configs = {name.split("/")[0] for name in folder.files if "/" in name}
    stale = [  # else a split cut into fewer files would keep some of the old ones
        CommitOperationDelete(file.rfilename)
        for file in before.siblings
        if file.rfilename.split("/")[0] in configs and file.rfilename not in folder.files
    ]
    additions = [CommitOperationAdd(name, folder.path / name) for name in folder.files]
    message = "Publish the named configs with dataset_scripts/publish_pathstar.py"
    commit = api.create_commit(repo_id, [*additions, *stale], commit_message=message, repo_type="dataset")
    url = f"{api.endpoint}/datasets/{repo_id}"
    if commit.oid == before.sha:
        return f"{url} has all of this already: nothing pushed"
    return f"pushed to {url} (commit {commit.oid[:8]})"


@contextlib.contextmanager
def explained(args: argparse.Namespace) -> Iterator[None]:
    """What fails at the Hub becomes one line that says what is wrong, what is kept and what to type."""
    try:
        yield
    except (*HUB_ERRORS, LocalEntryNotFoundError) as error:
        why = f"cannot push to {args.repo_id!r}: {reason(error, args.repo_id, '--repo_id')}"
        safe = "nothing was written"
        if args.output_dir.exists():
            again = ", and the same command goes on from here" * ((status_of(error) or 500) >= 500)
            safe = f"{args.output_dir} is kept{again}"
        raise OSError(f"{why}; {safe}") from error


def redact(text: str) -> str:
    """Without tokens: the one in use, and whatever looks like one."""
    token = get_token()
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_***", text.replace(token, "hf_***") if token else text)


if __name__ == "__main__":
    run(sys.argv[1:])
