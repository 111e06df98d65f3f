"""What makes two runs of a study the same run."""

from nt_failures.experiments.study.job import Job


def test_a_fingerprint_is_of_what_the_run_depends_on(tmp_path):
    """Catches: runs reported for rows, a recipe or flags that have changed since; all of them trained again for a
    comment; a file that changes under a study, whose runs then have two names."""
    rows, recipe = tmp_path / "rows.jsonl", tmp_path / "r.yaml"
    rows.write_text("a")
    recipe.write_text(f"train_file: {rows}\nseed: 1\n")
    job, first = Job(recipe, 3), Job(recipe, 3).fingerprint
    recipe.write_text(f"# ours\nseed: 1\ntrain_file: {rows}\n")
    assert Job(recipe, 4).fingerprint == first
    rows.write_text("b")
    changed = Job(recipe, 3)
    assert changed.fingerprint != first == job.fingerprint == job.key.fingerprint
    recipe.write_text("seed: 1\n")
    for number, flags in enumerate(([f"--test-file={rows}"], ["--streaming", "--test_file", str(rows)])):
        before = Job(recipe, 3, tuple(flags)).fingerprint
        rows.write_text("c" * (number + 2))
        assert len({before, Job(recipe, 3, tuple(flags)).fingerprint, Job(recipe, 3).fingerprint}) == 3
    recipe.write_text("- a list")
    assert Job(recipe, 3).fingerprint != first
