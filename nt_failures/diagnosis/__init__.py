"""Diagnosis: whether a model failed, and why. One claim, one file; `diagnose` asks for all of them."""

from nt_failures.diagnosis.by_difficulty import by_difficulty as by_difficulty
from nt_failures.diagnosis.by_place import by_place as by_place
from nt_failures.diagnosis.clever_hans import clever_hans as clever_hans
from nt_failures.diagnosis.decision_token import decision_token as decision_token
from nt_failures.diagnosis.diagnose import diagnose as diagnose
from nt_failures.diagnosis.evidence import Budget as Budget
from nt_failures.diagnosis.evidence import Evidence as Evidence
from nt_failures.diagnosis.forced_vs_free import forced_vs_free as forced_vs_free
from nt_failures.diagnosis.learning_order import learning_order as learning_order
from nt_failures.diagnosis.originality import originality as originality
from nt_failures.diagnosis.verdict import verdict as verdict
