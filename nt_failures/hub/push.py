"""Push a run's folder to the Hub: which files, and what to type when a push fails."""

import contextlib
import logging
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors
from huggingface_hub.utils import filter_repo_objects

from nt_failures.hub.card import card_of_folder, made_here, published_card
from nt_failures.hub.integrity import check_whole, of_other_weights
from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import CARD, NOT_PUSHED, PUSHED, REPLACED, REPORTS, RESULTS_FILE, RUN_FILE
from nt_failures.hub.run_results import RunResults
from nt_failures.models import lora
from nt_failures.models.load import ADAPTER_CONFIG, is_adapter
from nt_failures.registry import first_line

logger = logging.getLogger(__name__)

HUB_ERRORS = (errors.HTTPError, errors.LocalTokenNotFoundError, errors.OfflineModeIsEnabled, RuntimeError)
HUB_ERRORS += (ConnectionError, TimeoutError)  # of hf_xet, which brings no response


def push_run(
    folder: Path | str,
    repo_id: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
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
    _check_base(folder)
    if RunResults.read(folder).verdict is None:
        logger.warning("%s has no verdict in %s: model and card are pushed without results", folder, RESULTS_FILE)
    if not (folder / CARD).exists():
        card_of_folder(folder, repo_id.split("/")[-1])
    with explained(repo_id, folder, revision, private):
        repo_id = make_repo(repo_id, revision, token, private)
        return upload(folder, repo_id, None, token, revision)


def _check_base(folder: Path) -> None:
    """ValueError for an adapter of a local folder, or of a base model that was changed, which nobody else has."""
    base = str(read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")) if is_adapter(folder) else ""
    if base.endswith(lora.CHANGED) or (base and Path(base).is_dir()):
        raise ValueError(
            f"{str(folder)!r} holds an adapter of {base!r}, of no use on the Hub, where that is missing; "
            "train with --merge_adapter true, which saves a whole model."
        )


@contextlib.contextmanager
def explained(
    repo_id: str, folder: Path | None = None, revision: str | None = None, private: bool | None = None
) -> Iterator[None]:
    """Turn what the Hub client raises into one OSError that says what is wrong, what is safe and what to type.

    `folder` holds the run that is pushed; None before a training. ValueError for a name that no repository has.
    """
    flag = "--hub_model_id" if folder is None else "--repo_id"
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is no name for a repository; give {flag} NAMESPACE/NAME of letters, digits, '-', '_' and '.'."
        ) from error
    except HUB_ERRORS as error:
        safe = "nothing was started and nothing written"
        if folder is not None:
            # With 403 the same command would be refused again.
            target = f"YOUR_NAME/{repo_id.split('/')[-1]}" if status_of(error) == 403 else repo_id
            words = ["python", "examples/push.py", str(folder), "--repo_id", target]
            words += [] if revision is None else ["--revision", revision]
            words += ["--private"] if private else []
            safe = f"the run is whole in {folder}; push it with: {shlex.join(words)}"
        raise OSError(f"cannot push to {repo_id!r}: {reason(error, repo_id, flag)}; {safe}") from error


def status_of(error: BaseException) -> int | None:
    """The code of the Hub's answer, if it gave one."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code
    found = isinstance(error, ConnectionError) and re.search(r"HTTP status [a-z ]*error \((\d{3})", str(error))
    return int(found[1]) if found else None


def reason(error: BaseException, repo_id: str, flag: str = "--hub_model_id") -> str:
    """What is wrong and how to repair it, in one line without any secret; `flag` names the repository."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, errors.HTTPError):
        error = error.__cause__
    status = status_of(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
        return "the Hub knows no valid token; log in with `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"403, the token may not write to {repo_id!r}; take a token with write access, or another {flag}"
    if status is None and isinstance(error, errors.HTTPError):
        return f"{constants.ENDPOINT} is out of reach ({first_line(error)}); look at the network"
    return first_line(error)


def _api() -> HfApi:
    return HfApi(library_name="nt_failures")


def make_repo(repo_id: str, revision: str | None, token: str | None, private: bool | None) -> str:
    """Create the repository and its branch, or find that they are there and may be written; its full name."""
    repo_id = _api().create_repo(repo_id, token=token, private=private, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/"):  # a pull request is there already
        _api().create_branch(repo_id, branch=revision, token=token, exist_ok=True)
    return repo_id


def upload(
    folder: Path,
    repo_id: str,
    message: str | None,
    token: str | None,
    revision: str | None,
    run_as_future: bool = False,
) -> CommitInfo | Future:
    """One commit of the folder's files; the card goes with the repository's name in it and stays as it is on disk.

    ValueError for an adapter of a base model that nobody else has.
    """
    api = _api()
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    other = REPORTS if of_other_weights(RunResults.read(folder), folder / RUN_FILE) else ()
    pushed = list(filter_repo_objects(names, allow_patterns=PUSHED, ignore_patterns=[*NOT_PUSHED, *other]))
    contents = {name: published_card(folder, repo_id) if name == CARD else folder / name for name in pushed}
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]

    def by_hand() -> bool:
        page = Path(api.hf_hub_download(repo_id, CARD, revision=revision, token=token))
        return not made_here(page.read_text(encoding="utf-8"))

    def commit() -> CommitInfo:
        _check_base(folder)
        there = api.list_repo_files(repo_id, revision=revision, token=token)
        old = filter_repo_objects([name for name in there if "/" not in name], allow_patterns=REPLACED)
        old = [name for name in old if name not in pushed and not (name == CARD and by_hand())]
        gone = [CommitOperationDelete(path_in_repo=name) for name in old]
        text = message or "Push of a run"
        return api.create_commit(repo_id, [*added, *gone], commit_message=text, token=token, revision=revision)

    # One thread for all, so that commits of two checkpoints keep their order.
    return huggingface_hub.run_as_future(commit) if run_as_future else commit()
