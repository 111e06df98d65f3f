"""The folder on disk: Parquet in the Hub's layout, card and figure (path-star graphs). Replaced whole, if ours."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pathstar_card
import task_card
from dataset_card import Config, default_of
from huggingface_hub.utils.sha import sha_fileobj
from publication import Publication
from tqdm.auto import tqdm

from nt_failures.data.builder import TaskBuilder
from nt_failures.diagnosis import figures

MANIFEST = ".published.json"
"""Names each file that we wrote, with its hash: what is not in here is not ours. It stays on this machine."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder that `prepare` has written, or found.

    `files` are the paths in the repo; `reused` says that an earlier run had left all of them.
    """

    path: Path
    files: tuple[str, ...]
    reused: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.path / name).stat().st_size for name in self.files)


def prepare(publication: Publication, path: Path) -> Folder:
    """Write the files to `path`, unless they are there already.

    Raises:
        ValueError: `path` holds anything that this script did not write, or that was changed since; nothing is touched.
    """
    path = path.resolve()  # `.` has no name, and a link to a folder is not to become a folder
    state = publication.made_with() | {"code": _code_hash()}
    manifest = _own_manifest(path)
    if manifest.get("made_with") == state:
        return Folder(path, tuple(manifest["files"]), reused=True)
    partial, old = (path.with_name(f".{path.name}.{ending}") for ending in ("partial", "old"))
    for left in (partial, old):  # by a run that was killed
        _remove(left)
    partial.mkdir(parents=True)
    _write_manifest(partial, {}, {})
    try:
        write(publication, partial)
        names = sorted({file.relative_to(partial).as_posix() for file in _files(partial)} - {MANIFEST})
        _write_manifest(partial, state, {name: _sha256(partial / name) for name in names})
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        _remove(partial)
        raise
    _remove(old)
    return Folder(path, tuple(names), reused=False)


def write(publication: Publication, path: Path) -> None:
    """Write all files into `path`, an empty folder."""
    configs = []
    for builder in tqdm(publication.builders(), desc="configs"):
        builder.download_and_prepare()
        configs.append(_write_config(builder, publication.shard_bytes, path))
    card = task_card
    if publication.task == "path_star":
        card = pathstar_card
        _draw(default_of(configs), path / card.FIGURE)
    (path / "README.md").write_text(card.text(publication, configs), encoding="utf-8")


def _draw(shown: Config, path: Path) -> None:
    """The figure: the first graph of a config."""
    row = shown.samples[0]
    title = f"{shown.name}: from {row['source']} to {row['goal']}"
    star = shown.builder.config.task.picture(row, [node for node in row["path"] if node >= 0])
    figure = figures.path_star(star.edges, star.source, star.goal, star.path, star.answer, title=title)
    figures.save(figure, path)


def _write_config(builder: TaskBuilder, shard_bytes: int, path: Path) -> Config:
    """The Parquet of one config; the schema carries the features, from which `datasets` reads them back."""
    name, splits, size = builder.config.name, builder.as_dataset(), 0
    (path / name).mkdir()
    for split, rows in splits.items():
        count = max(1, min(-(-builder.info.splits[split].num_bytes // shard_bytes), len(rows)))
        for index in range(count):
            file = path / name / f"{split}-{index:05d}-of-{count:05d}.parquet"
            rows.shard(count, index, contiguous=True).to_parquet(file)
            size += file.stat().st_size
    samples = next(iter(splits.values())).take(3).to_list()
    return Config(builder, size, samples)


def _own_manifest(path: Path) -> dict:
    """The manifest of a folder of ours; {} if there is nothing yet."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return {}
    advice = "move it away, or choose another --output_dir. Nothing was changed"
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path} is there already and was not written by this script; {advice}.")
    manifest = json.loads((path / MANIFEST).read_text())
    present = {file.relative_to(path).as_posix() for file in _files(path)} - {MANIFEST}
    if foreign := sorted(present - manifest["files"].keys()):
        raise ValueError(f"{path} also holds {', '.join(foreign[:3])}, which this script did not write; {advice}.")
    for name, sha256 in manifest["files"].items():
        if name not in present or _sha256(path / name) != sha256:
            raise ValueError(f"{path / name} was changed or deleted since this script wrote it; {advice}.")
    return manifest


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()]


def _write_manifest(path: Path, made_with: dict[str, str], files: dict[str, str]) -> None:
    (path / MANIFEST).write_text(json.dumps({"made_with": made_with, "files": files}, indent=1))


def _remove(path: Path) -> None:
    """Delete a folder in which we build; one without a manifest is somebody else's."""
    if path.exists():
        if not (path / MANIFEST).is_file() and any(path.iterdir()):
            raise ValueError(f"{path}, where this script builds, holds something else; move it away.")
        shutil.rmtree(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha_fileobj(file).hex()


def _code_hash() -> str:
    """Changes with the cards' wording and the figure, which the builder's own hash does not see."""
    files = [*Path(__file__).parent.glob("[!_]*.py"), *Path(figures.__file__).parent.glob("*.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:16]
