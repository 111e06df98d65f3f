"""To the Hub: what of a run is pushed, when, and what to type when a push fails."""

import contextlib
import dataclasses
import logging
import shlex
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from nt_failures.hub.integrity import check_whole
from nt_failures.hub.load import check_published
from nt_failures.hub.run_card import CARD, card_of_folder, published_card, read_results
from nt_failures.hub.run_files import RESULTS_FILE

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

PUSHED = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.md",
    "*.yaml",
    "*.png",
]
"""What of a run's folder goes to the Hub: weights, tokenizer, descriptions, results, card, figures. No pickles."""
NOT_PUSHED = ["*/*", "trainer_state.json", "_*"]
"""Nothing of subfolders (checkpoints with their optimizer states, logs of trackers)."""
WEIGHTS = ["model*.safetensors", "model.safetensors.index.json", "config.json", "adapter_config.json"]
WEIGHTS += ["adapter_model.safetensors", "objective_modules.safetensors"]
"""What decides which model a repository is: of an earlier push nothing of it may stay beside other weights."""


def push_run(
    folder: Path | str,
    repo_id: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Push of a run",
) -> CommitInfo:
    """Push the folder of a finished run, also again: what the Hub has already is not sent twice.

    A card that is there is kept, with the repository's name in the snippet of its pushed copy; a missing one is made.

    Args:
        private: of a new repository; that of an old one stays as it is.
        revision: branch to push to, made where it is missing; the main branch if not given.

    Raises:
        ValueError: the folder holds no whole run, or `repo_id` is no name for a repository.
        OSError: the push failed; nothing of the run has changed, and the message says what to do.
    """
    folder = Path(folder)
    check_whole(folder)
    check_published(folder)
    again = Again(folder, revision, private)
    with explained(repo_id, again):
        validate_repo_id(repo_id)
    if "diagnosis" not in read_results(folder):
        logger.warning("%s has no verdict in %s: model and card are pushed without results", folder, RESULTS_FILE)
    if not (folder / CARD).exists():
        card_of_folder(folder, repo_id.split("/")[-1])
    with explained(repo_id, again):
        repo_id = _api().create_repo(repo_id, token=token, private=private, exist_ok=True).repo_id
        _make_branch(repo_id, revision, token)
        return _upload(folder, repo_id, commit_message, token, revision)


@dataclasses.dataclass(frozen=True)
class Again:
    """A run that is whole on disk, and how it was to be pushed."""

    folder: Path
    revision: str | None = None
    private: bool | None = None

    def command(self, repo_id: str) -> str:
        """What to type to push it."""
        words = ["python", "examples/push.py", str(self.folder), "--repo_id", repo_id]
        words += [] if self.revision is None else ["--revision", self.revision]
        return shlex.join([*words, "--private"] if self.private else words)


@contextlib.contextmanager
def explained(repo_id: str, again: Again | None = None) -> Iterator[None]:
    """Turn what the Hub client raises into one OSError that says what is wrong, what is safe and what to type.

    `again` is the run that is on disk by now; None before a training. ValueError for a name that no repository can have.
    """
    flag = "--hub_model_id" if again is None else "--repo_id"
    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is no name for a repository; give {flag} NAMESPACE/NAME of letters, digits, '-', '_' and '.'."
        ) from error
    except (HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RuntimeError) as error:
        safe = "nothing was started and nothing written"
        if again is not None:
            # The same command would be refused again.
            target = f"YOUR_NAME/{repo_id.split('/')[-1]}" if _status(error) == 403 else repo_id
            safe = f"the run is whole in {again.folder}; push it with: {again.command(target)}"
        raise OSError(f"cannot push to {repo_id!r}: {reason(error, repo_id, flag)}; {safe}") from error


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def reason(error: BaseException, repo_id: str, flag: str = "--hub_model_id") -> str:
    """What is wrong and how to repair it, in one line without any secret; `flag` is the one that names the repository."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPError):
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    status = _status(error)
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return "the Hub knows no valid token; log in with `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"403, the token may not write to {repo_id!r}; take a token with write access, or another {flag}"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, HTTPError) and status is None:
        return f"{constants.ENDPOINT} is out of reach ({first}); look at the network"
    return first


def _api() -> HfApi:
    return HfApi(library_name="nt_failures")


def _make_branch(repo_id: str, revision: str | None, token: str | None) -> None:
    if revision is not None and not revision.startswith("refs/"):  # a pull request is there already
        _api().create_branch(repo_id, branch=revision, token=token, exist_ok=True)


def _upload(
    folder: Path,
    repo_id: str,
    message: str | None,
    token: str | None,
    revision: str | None,
    run_as_future: bool = False,
) -> CommitInfo | Future:
    """One commit of the folder's files; the card goes with the repository's name in it and stays as it is on disk."""
    api = _api()
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    pushed = list(filter_repo_objects(names, allow_patterns=PUSHED, ignore_patterns=NOT_PUSHED))
    added = []
    for name in pushed:
        content = published_card(folder, repo_id) if name == CARD else folder / name
        added.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))

    def commit() -> CommitInfo:
        there = api.list_repo_files(repo_id, revision=revision, token=token)
        old = filter_repo_objects([name for name in there if "/" not in name], allow_patterns=WEIGHTS)
        gone = [CommitOperationDelete(path_in_repo=name) for name in old if name not in pushed]
        message_ = message or "Push of a run"
        return api.create_commit(repo_id, [*added, *gone], commit_message=message_, token=token, revision=revision)

    return api.run_as_future(commit) if run_as_future else commit()
