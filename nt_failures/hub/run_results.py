"""RunResults: the entries of results.json with their types. What was measured in a run, how, and with what."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.evaluation.metrics import Accuracies
from nt_failures.hub.json_files import not_finite, read_object
from nt_failures.hub.run_files import RESULTS_FILE

NO_SCORE = re.compile(r"runtime|samples_per_second|steps_per_second|model_preparation_time|problems|n/position_\d+")
"""What `Trainer.evaluate` returns beside its metrics."""
SHARE = re.compile(
    r"decision|(forced|free|parallel)/(exact|position_\d+)|(free|parallel)/(unseen|creativity)|cheat/\w+_rate"
)
"""Names of metrics that are shares of rows, in 0..1."""


def _entry(kind: str) -> Any:
    return dataclasses.field(default=None, metadata={"kind": kind})


@dataclasses.dataclass(frozen=True)
class RunResults:
    """results.json of a run; None for an entry that is not known.

    Example:
        >>> RunResults.from_json({"n": 200, "metrics": {"free/exact": 0.5}}).accuracies.free.exact
        0.5
    """

    metrics: Mapping[str, float] | None = _entry("object")
    """of the test split, without a prefix: `loss`, `free/exact`, `forced/position_2`, ..."""
    n: int | None = _entry("count")
    """different problems among the rows that the metrics are of: what intervals are made of"""
    rows: int | None = _entry("count")
    """rows that the metrics are of; None where n counts them, because nobody has looked whether they differ"""
    chance: float | None = _entry("share")
    """accuracy of a guess at the decision"""
    decision_position: int | None = _entry("count")
    trained_positions: Sequence[int] | None = _entry("list")
    """positions of the answer that alone were trained; None for all"""
    judged_decoding: str | None = _entry("decoding")
    """predictions by which its positions are judged, `Objective.judged_decoding`"""
    diagnosis: Mapping[str, Any] | None = _entry("object")
    """of `diagnose`, with its verdict"""
    example: Mapping[str, Any] | None = _entry("object")
    """a test row with the model's `prediction`, and both as `text`, as `Observations.example` picks it"""
    instance: Mapping[str, str] | None = _entry("object")
    """`prompt` and `completion` of the first test row"""
    steps: int | None = _entry("count")
    examples: int | None = _entry("count")
    flops: float | None = _entry("number")
    train_seconds: float | None = _entry("number")
    resumed_at: int | None = _entry("count")
    """step from which this process trained"""
    throughput: Mapping[str, Any] | None = _entry("object")
    parameters: int | None = _entry("count")
    learning_curve: Sequence[Mapping[str, float]] | None = _entry("list")
    """the evaluations during training: `step` and metrics"""
    gradient_shares: Sequence[Mapping[str, float]] | None = _entry("list")
    """of each further term of the loss: the norm of its gradient over the next token's, by `step`"""
    arguments: Mapping[str, Mapping[str, Any]] | None = _entry("object")
    """`Arguments.to_dict()`"""
    training_arguments: Mapping[str, Any] | None = _entry("object")
    """what differs from its default, of a run without `arguments`"""
    local: Sequence[str] | None = _entry("list")
    """arguments that named a folder or file of the machine that trained: "model", "tokenizer", "train_file", ..."""
    versions: Mapping[str, str] | None = _entry("object")
    hardware: Mapping[str, Any] | None = _entry("object")
    weights: str | None = _entry("text")
    """`integrity.sum_of_weights` of the model that all this is about"""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """all other entries as they were read, such as recipe, seed and fingerprint of a study's lines"""

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = RESULTS_FILE) -> "RunResults":
        """The results of a JSON object; null is as good as no entry.

        Args:
            source: what the object was read from, for the error's text.

        Raises:
            ValueError: an entry of another type, a share outside 0..1, or NaN or infinity where no loss stands; the
                loss of a training that diverged is a result.
        """
        kinds = {field.name: field.metadata["kind"] for field in dataclasses.fields(cls) if field.name != "extra"}
        known = {name: values[name] for name in kinds if values.get(name) is not None}
        checked = [(name, kinds[name], value) for name, value in known.items()]
        if isinstance(curve := known.get("learning_curve"), list):
            checked += [(f"learning_curve.{i}", "object", entry) for i, entry in enumerate(curve)]
        if isinstance(metrics := known.get("metrics"), Mapping):
            kind_of = {name: "share" if SHARE.fullmatch(name) else "number" for name in metrics}
            checked += [(f"metrics.{name}", kind_of[name], value) for name, value in metrics.items()]
        if isinstance(diagnosis := known.get("diagnosis"), Mapping):
            checked.append(("diagnosis.verdict", "verdict", diagnosis.get("verdict")))
        for where in not_finite(known):
            if "loss" not in where:
                raise ValueError(f"{source} has no number at {where}")
        for where, kind, value in checked:
            if not _IS[kind](value):
                raise ValueError(f"{source} has no {kind} at {where}: {str(value)[:80]!r}")
        return cls(**known, extra={name: value for name, value in values.items() if name not in kinds})

    @classmethod
    def read(cls, folder: Path) -> "RunResults":
        """results.json of a folder; one without entries where there is none."""
        path = folder / RESULTS_FILE
        return cls.from_json(read_object(path)) if path.is_file() else cls()

    def to_json(self) -> dict[str, Any]:
        """The entries that are known, and `trained_positions`, where null says something."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "extra"}
        kept = {name: value for name, value in known.items() if value is not None or name == "trained_positions"}
        return {**self.extra, **kept}

    @property
    def scores(self) -> dict[str, float]:
        """The metrics without what `Trainer.evaluate` returns beside them."""
        return {name: value for name, value in (self.metrics or {}).items() if not NO_SCORE.fullmatch(name)}

    @property
    def accuracies(self) -> Accuracies | None:
        """The shares by decoding and position; None where they, or the rows that they are of, are not known."""
        if self.n is None or "free/exact" not in self.scores:
            return None
        return Accuracies.from_names(self.metrics, self.n, self.rows)

    @property
    def verdict(self) -> Mapping[str, str] | None:
        """`name`, `text` and `rule` of the diagnosis; None without one."""
        return None if self.diagnosis is None else self.diagnosis["verdict"]

    @property
    def data_arguments(self) -> Mapping[str, Any]:
        """How the rows were drawn; empty where that is not known."""
        return (self.arguments or {}).get("data", {})

    @property
    def files(self) -> list[str]:
        """The arguments by which rows came from a file, such as `train_file`."""
        return [name for name, value in self.data_arguments.items() if name.endswith("_file") and value]


_IS = {
    "number": lambda value: type(value) in (int, float),
    "share": lambda value: type(value) in (int, float) and 0 <= value <= 1,
    "count": lambda value: type(value) is int and value >= 0,
    "object": lambda value: isinstance(value, Mapping),
    "text": lambda value: isinstance(value, str),
    "decoding": lambda value: value in ("forced", "free"),
    "list": lambda value: isinstance(value, (list, tuple)),
    "verdict": lambda value: isinstance(value, Mapping) and {"name", "text", "rule"} <= {*value},
}
