"""Diagnosis: whether a model failed, and why. One claim, one file; `diagnose` asks for all of them."""

from nt_failures.diagnosis.by_difficulty import by_difficulty
from nt_failures.diagnosis.by_place import by_place
from nt_failures.diagnosis.clever_hans import clever_hans
from nt_failures.diagnosis.decision_token import decision_token
from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.diagnosis.evidence import Budget, Evidence
from nt_failures.diagnosis.forced_vs_free import forced_vs_free
from nt_failures.diagnosis.learning_order import learning_order
from nt_failures.diagnosis.originality import originality
from nt_failures.diagnosis.verdict import verdict

__all__ = [
    "Budget",
    "Evidence",
    "by_difficulty",
    "by_place",
    "clever_hans",
    "decision_token",
    "diagnose",
    "forced_vs_free",
]
__all__ += ["learning_order", "originality", "verdict"]
