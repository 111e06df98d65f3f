"""What every dataset card, README.md, has: YAML for the Hub, and the words in which it names sizes."""

import dataclasses
from collections.abc import Iterable

from datasets import DatasetInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData
from publication import Publication

from nt_failures.data.builder import TaskBuilder

MARK = "<!-- Written by dataset_scripts/publish_pathstar.py of nt_failures: edit that, not this. -->"
"""By this the script knows a card of its own on the Hub; it overwrites no other."""

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M"}
SIZES |= {10**7: "1M<n<10M", 10**8: "10M<n<100M", 10**9: "100M<n<1B", 10**10: "1B<n<10B"}
"""The Hub's names, by the bound above; all configs together count."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One config as it was written: its builder (prepared), bytes of its Parquet, and its first rows."""

    builder: TaskBuilder
    size: int
    samples: list[dict]

    @property
    def name(self) -> str:
        """Its name, and its folder's."""
        return self.builder.config.name

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: info.num_examples for split, info in self.builder.info.splits.items()}


def default_of(configs: list[Config]) -> Config:
    """The config that `load_dataset` takes unasked: the builder's default where it is published, else the first."""
    return next((config for config in configs if config.name == config.builder.DEFAULT_CONFIG_NAME), configs[0])


def head(configs: list[Config], title: str, tags: list[str]) -> str:
    """The YAML, which files are which split of which config, their features and sizes; and the mark."""
    total = sum(sum(config.rows.values()) for config in configs)
    data = DatasetCardData(
        license="apache-2.0",
        pretty_name=title,
        task_categories=["text-generation"],
        size_categories=[next(name for bound, name in SIZES.items() if total < bound)],
        annotations_creators=["machine-generated"],
        tags=[*tags, "synthetic", "nt_failures"],
    )
    data["configs"] = [
        {
            "config_name": config.name,
            "data_files": [{"split": split, "path": f"{config.name}/{split}-*"} for split in config.rows],
        }
        | ({"default": True} if config is default_of(configs) else {})
        for config in configs
    ]
    DatasetInfosDict({config.name: _info(config) for config in configs}).to_dataset_card_data(data)
    return f"---\n{data.to_yaml()}\n---\n{MARK}"


def _info(config: Config) -> DatasetInfo:
    known = config.builder.info
    size = sum(split.num_bytes for split in known.splits.values())
    return DatasetInfo(features=known.features, splits=known.splits, download_size=config.size, dataset_size=size)


def usage(publication: Publication, config: Config, other: dict[str, object]) -> str:
    """How to load it, without the package and with it; `other` are parameters of any size."""
    repo_id, more = publication.builder.REPO_ID, ", ".join(f"{name}={value!r}" for name, value in other.items())
    own = "".join(f", {name}={count}" for name, count in publication.rows.items())
    return f"""## Use

```python
from datasets import load_dataset

data = load_dataset("{publication.repo_id}", "{config.name}")
```

needs nothing but `datasets`. With the library `nt_failures` installed, the same rows are drawn on your machine, at
any size, and nothing is downloaded:

```python
import nt_failures
from datasets import load_dataset

data = load_dataset("{repo_id}", "{config.name}"{own})
more = load_dataset("{repo_id}", {more}, num_train=1000, num_test=100)
```

Without that import `load_dataset` looks on the Hub for `{repo_id}` alone, and the last line fails with
`doesn't have a '{next(iter(other))}' key`, `doesn't exist on the Hub or cannot be accessed`, or `Couldn't reach`:
put `import nt_failures` above it."""


def making(publication: Publication, config: Config) -> str:
    """The command, and what the bytes depend on."""
    facts = publication.made_with()
    command = facts.pop("command")
    facts |= {"seed": str(config.builder.config.seed), "overlap": config.builder.config.overlap}
    return f"""## How it was made

```bash
{command}
```

| made with | |
|---|---|
{table((name, f"`{value}`") for name, value in facts.items())}"""


def megabytes(size: int) -> str:
    """Bytes for a reader."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def table(lines: Iterable[Iterable[str]]) -> str:
    """Lines of cells as Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
