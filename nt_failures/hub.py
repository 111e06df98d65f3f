"""To the Hub: what of a run is pushed, when, and what to type when a push fails."""

import contextlib
import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from transformers.utils import PushInProgress

from nt_failures.records import RUN_FILE
from nt_failures.run_card import CARD, card_of_folder, name_the_repo

if TYPE_CHECKING:
    from nt_failures.trainer import ObjectiveTrainer

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


def push_run(
    folder: Path | str,
    repo_id: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Push of a finished run",
) -> CommitInfo:
    """Push the folder of a finished run, also again: what the Hub has already is not sent twice.

    A card that is there is kept, with the repository's name put into its snippet; a missing one is made.

    Raises:
        ValueError: the folder holds no whole run.
        OSError: the push failed; nothing on disk has changed, and the message says what to do.
    """
    folder = Path(folder)
    check_whole(folder)
    if not (folder / CARD).exists():
        card_of_folder(folder, repo_id.split("/")[-1])
    with explained(repo_id, folder):
        repo_id = _api().create_repo(repo_id, token=token, private=private, exist_ok=True).repo_id
        name_the_repo(folder, repo_id)
        return _upload(folder, repo_id, commit_message, token, revision)


def check_whole(folder: Path) -> None:
    """Raise ValueError unless the folder holds a run with its weights, config, tokenizer and description."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the output folder of a run.")
    missing = [name for name in ("config.json", "tokenizer_config.json", RUN_FILE) if not (folder / name).exists()]
    index = folder / "model.safetensors.index.json"
    weights = ["model.safetensors"]
    if index.exists():
        try:
            weights = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            missing += [name for name in weights if Path(name).name != name]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{index} is damaged ({error!r}); save the model again.") from error
    missing += [name for name in weights if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{str(folder)!r} holds no whole run: {', '.join(missing)} missing; finish it with --resume_from_checkpoint "
            "last, or train it again, or give the folder of another run."
        )


def push_trainer(
    trainer: "ObjectiveTrainer",
    commit_message: str | None,
    blocking: bool,
    token: str | None,
    revision: str | None,
    private: bool | None,
    **card_options: Any,
) -> CommitInfo | Future | None:
    """What `ObjectiveTrainer.push_to_hub` does: that of transformers, with our card and our choice of files."""
    args, folder = trainer.args, Path(trainer.args.output_dir)
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    token = token if token is not None else args.hub_token
    trainer.save_model(_internal_call=True)  # by all processes
    if not trainer.is_world_process_zero():
        return None
    name = (args.hub_model_id or folder.resolve().name).split("/")[-1]
    trainer.create_model_card(**{"model_name": name, **card_options})
    with explained(args.hub_model_id or name, folder):
        if trainer.hub_model_id is None:
            create_repo_of(trainer, token, private)
        name_the_repo(folder, trainer.hub_model_id)
        trainer._finish_current_push()
        pushed_revision = args.hub_revision if revision is None else revision
        return _upload(folder, trainer.hub_model_id, commit_message, token, pushed_revision, not blocking)


def create_repo_of(trainer: "ObjectiveTrainer", token: str | None, private: bool | None) -> None:
    """Create the trainer's repository, or find that it is there and may be written; what transformers notes is noted."""
    args = trainer.args
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    token = token if token is not None else args.hub_token
    private = private if private is not None else args.hub_private_repo
    trainer.hub_model_id = _api().create_repo(name, token=token, private=private, exist_ok=True).repo_id
    trainer.push_in_progress = None


def push_checkpoint(trainer: "ObjectiveTrainer", checkpoint: Path) -> None:
    """Push the weights of a checkpoint in the background; a failure is a warning, never the end of the training."""
    args, earlier = trainer.args, trainer.push_in_progress
    if earlier is not None and not earlier.is_done() and not args.hub_always_push:
        return
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    staged = Path(tempfile.mkdtemp())  # a checkpoint may be deleted (save_total_limit) before it is sent
    for pattern in PUSHED:
        for path in checkpoint.glob(pattern):
            shutil.copy(path, staged)

    def clear(job: Future) -> None:
        shutil.rmtree(staged)
        if job.exception() is not None:
            logger.warning(
                "a push during training failed, training goes on: %s", reason(job.exception(), trainer.hub_model_id)
            )

    message = f"Training in progress, step {trainer.state.global_step}"
    job = _upload(staged, trainer.hub_model_id, message, args.hub_token, args.hub_revision, run_as_future=True)
    job.add_done_callback(clear)
    running = [] if earlier is None or earlier.is_done() else earlier.jobs
    trainer.push_in_progress = PushInProgress([*running, job])


@contextlib.contextmanager
def explained(repo_id: str, folder: Path | None = None) -> Iterator[None]:
    """Turn what the Hub client raises into one OSError that says what is wrong, what is safe and what to type."""
    try:
        yield
    except (HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RuntimeError) as error:
        safe = "nothing was started and nothing written"
        if folder is not None:
            command = shlex.join(["python", "examples/push.py", str(folder), "--repo_id", repo_id])
            safe = f"the run is whole in {folder}; push it with: {command}"
        raise OSError(f"cannot push to {repo_id!r}: {reason(error, repo_id)}; {safe}") from error


def reason(error: BaseException, repo_id: str) -> str:
    """What is wrong and how to repair it, in one line without any secret."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPError):
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return "the Hub knows no valid token; log in with `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"403, the token may not write to {repo_id!r}; take a token with write access, or another --hub_model_id"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, HTTPError) and status is None:
        return f"{constants.ENDPOINT} is out of reach ({first}); look at the network"
    return first


def _api() -> HfApi:
    return HfApi(library_name="nt_failures")


def _upload(
    folder: Path,
    repo_id: str,
    message: str | None,
    token: str | None,
    revision: str | None,
    run_as_future: bool = False,
) -> CommitInfo | Future:
    return _api().upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message=message,
        token=token,
        revision=revision,
        run_as_future=run_as_future,
        allow_patterns=PUSHED,
        ignore_patterns=NOT_PUSHED,
    )
