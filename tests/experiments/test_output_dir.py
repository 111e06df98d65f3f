"""The output folder of a run: claimed by one process, and nothing of an earlier run is lost."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from run_arguments import TINY, arguments

from nt_failures.experiments import earlier_run, output_dir
from nt_failures.experiments.command_line import parse
from nt_failures.experiments.earlier_run import LOCK_FILE
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.hub.recipe import recipe_text
from nt_failures.training import checkpoint_files


def claim(args):
    """What examples/train.py does with its folder before training."""
    output_dir.check(args)
    with output_dir.claim(args) as checkpoint:
        return checkpoint


def content(folder):
    """Every file below but the lock, with its text."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier run, with two checkpoints."""
    folder = tmp_path / "run"
    for step in (9, 10):
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model").write_text("weights", encoding="utf-8")
        state = {"global_step": step, "epoch": step / 4}
        (checkpoint / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
        checkpoint_files.seal(checkpoint)
    (folder / "results.json").write_text('{"steps": 10}', encoding="utf-8")
    (folder / "arguments.json").write_text(
        json.dumps(arguments(folder, "--max_steps", "10").to_dict()), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_folder(tmp_path, exists):
    """Catches: a run that says nothing of its arguments, or refuses an empty folder."""
    folder = tmp_path / "a" / "run"
    if exists:
        folder.mkdir(parents=True)
    args = arguments(folder, "--seed", "3")
    assert claim(args) is None
    assert set(content(folder)) == {"arguments.json"}
    assert json.loads(content(folder)["arguments.json"]) == {**args.to_dict(), "processes": 1}


def test_an_earlier_run_is_refused(earlier):
    """Catches: results overwritten by a command typed twice."""
    before = content(earlier)
    with pytest.raises(ValueError, match=r"is not empty; add --resume to go on .*--overwrite_output_dir"):
        claim(arguments(earlier))
    assert content(earlier) == before


def test_a_run_that_never_began_blocks_no_other(tmp_path):
    """Catches: a tracker without a key, or Ctrl-C, after which the same command is refused."""
    claim(arguments(tmp_path / "run", "--seed", "1"))
    again = arguments(tmp_path / "run", "--seed", "2")
    assert claim(again) is None
    assert json.loads(content(tmp_path / "run")["arguments.json"]) == {**again.to_dict(), "processes": 1}


def test_an_earlier_run_is_replaced_whole(earlier):
    """Catches: checkpoints of the old run that the new one would resume from."""
    assert claim(arguments(earlier, "--overwrite_output_dir")) is None
    assert set(content(earlier)) == {"arguments.json"}


def test_an_earlier_run_stays_until_its_successor_has_made_a_step(earlier):
    """Catches: a run of hours deleted for one that has no memory for its first batch, or whose optimizer is missing;
    one that comes back, or stays beside it, once the other trains."""
    before, args = content(earlier), arguments(earlier, "--overwrite_output_dir")

    def fails(made):
        with output_dir.claim(args):
            assert not (earlier / "results.json").exists()
            (earlier / "runs").mkdir()
            (earlier / "runs" / "log").write_text("of a tracker", encoding="utf-8")
            if made:
                earlier_run.forget(earlier)
            raise MemoryError

    with pytest.raises(MemoryError):
        fails(made=False)
    assert content(earlier) == before
    with pytest.raises(MemoryError):
        fails(made=True)
    assert set(content(earlier)) == {"arguments.json", "runs/log"}


def test_an_earlier_run_outlives_a_kill_before_the_first_step(earlier):
    """Catches: the earlier run set aside twice, so that what comes back is the one that was killed."""
    before, args = content(earlier), arguments(earlier, "--overwrite_output_dir")
    earlier_run.set_aside(earlier)
    (earlier / "arguments.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is not empty; add --overwrite_output_dir"):
        claim(arguments(earlier))
    with pytest.raises(MemoryError), output_dir.claim(args):
        raise MemoryError
    assert content(earlier) == before


@pytest.mark.parametrize("moved", [0, 1, 3, 4])
def test_an_earlier_run_comes_back_after_a_kill_as_it_is_set_aside(earlier, monkeypatch, moved):
    """Catches: a run in `.replaced` that no command finds again, or the rest of it taken for its successor and
    cleared."""
    before, rename, done = content(earlier), Path.rename, []

    def killed(path, target):
        if len(done) == moved:
            raise KeyboardInterrupt
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        earlier_run.set_aside(earlier)  # and no arguments of a next run are written
    with pytest.raises(ValueError, match=r"is not empty; add --resume to go on with it, --overwrite_output_dir"):
        claim(arguments(earlier))
    with pytest.raises(MemoryError), output_dir.claim(arguments(earlier, "--overwrite_output_dir")):
        raise MemoryError
    assert content(earlier) == before
    assert not (earlier / ".replaced").exists()


def test_a_folder_that_no_run_wrote_is_never_cleared(tmp_path):
    """Catches: `--overwrite_output_dir --output_dir ~`."""
    (tmp_path / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds no earlier run .*so it is left alone"):
        claim(arguments(tmp_path, "--overwrite_output_dir"))
    assert content(tmp_path) == {"thesis.tex": "years"}


def test_resuming_takes_the_last_checkpoint_and_keeps_all(earlier):
    """Catches: checkpoint-9 taken for later than checkpoint-10, a folder cleared before it is resumed."""
    before = content(earlier)
    found = claim(arguments(earlier, "--resume"))
    assert found == str(earlier / "checkpoint-10")
    assert {**content(earlier), "arguments.json": ""} == {**before, "arguments.json": ""}


def test_the_default_folder_is_named_after_the_run(tmp_path, monkeypatch):
    """Catches: two runs that differ in seed, order or size in one folder."""
    monkeypatch.chdir(tmp_path)
    args = parse([*TINY, "--order", "reversed", "--seed", "7"])
    claim(args)
    assert args.training.output_dir == "outputs/deg2-path3-nodes10-gpt2-1x16-next_token-reversed-seed7"
    assert (tmp_path / args.training.output_dir / "arguments.json").exists()


def default(*flags, began=True):
    """The folder that a run without --output_dir gets, and writes to if it `began`."""
    args = parse([*TINY, "--seed", "7", *flags])
    claim(args)
    if began:
        (Path(args.training.output_dir) / "results.json").write_text('{"steps": 10}', encoding="utf-8")
    return args.training.output_dir.removeprefix("outputs/deg2-path3-nodes10-gpt2-1x16-next_token-forward-seed7")


def test_runs_with_other_arguments_have_other_default_folders(tmp_path, monkeypatch):
    """Catches: two learning rates, budgets, data or models of which the second is refused for the folder of the first;
    a command typed twice that trains twice."""
    monkeypatch.chdir(tmp_path)
    others = [
        ("--learning_rate", "0.5"),
        ("--max_steps", "50"),
        ("--num_train", "99"),
        ("--config_overrides", '{"n_inner": 8}'),
    ]
    assert default() == ""
    assert [default(*flags) for flags in others] == ["-2", "-3", "-4", "-5"]
    for flags in ([], *others, ["--num_test", "9"]):
        with pytest.raises(ValueError, match="is not empty"):
            default(*flags)
    assert default("--overwrite_output_dir", *others[1]) == "-3"


def test_resuming_finds_the_default_folder(tmp_path, monkeypatch):
    """Catches: `--resume` that begins anew beside the run it was to go on with; another budget for another run; a typo
    that begins a new run in silence."""
    monkeypatch.chdir(tmp_path)
    assert default("--resume") == ""
    assert default("--learning_rate", "0.5", "--max_steps", "50") == "-2"
    next(tmp_path.glob("outputs/*-2/results.json")).unlink()  # it was killed before its first checkpoint
    assert default("--learning_rate", "0.5", "--max_steps", "80", "--resume", began=False) == "-2"
    assert default("--max_steps", "50") == "-3"
    next(tmp_path.glob("outputs/*-3/results.json")).unlink()
    assert default("--max_steps", "50", "--resume", began=False) == "-3"  # and not the first, of another budget
    with pytest.raises(ValueError, match=r"seed7' began with learning_rate='its default', not 0\.25; resume it with"):
        default("--learning_rate", "0.25", "--resume")


def test_trackers_get_one_name(tmp_path):
    """Catches: a run without a name, whose final test trackio files under another; a name given that is replaced."""
    first, named = arguments(tmp_path / "first"), arguments(tmp_path / "second", "--run_name", "mine")
    for args in (first, named):
        claim(args)
    assert first.training.run_name.startswith("first-20")
    assert named.training.run_name == "mine"
    assert "run_name" not in content(tmp_path / "first")["arguments.json"]


def test_only_the_first_process_touches_the_folder(earlier, monkeypatch):
    """Catches: a second process that clears the folder the first has just claimed."""
    monkeypatch.setattr(RunArguments, "process_index", 1)
    before = content(earlier)
    assert claim(arguments(earlier, "--overwrite_output_dir")) is None
    assert claim(arguments(earlier, "--resume")) == str(earlier / "checkpoint-10")
    assert content(earlier) == before


def test_checking_changes_nothing(earlier):
    """Catches: an earlier run cleared, or a folder claimed, by a command that fails before it trains."""
    before = content(earlier)
    output_dir.check(arguments(earlier, "--overwrite_output_dir"))
    assert content(earlier) == before


def test_the_model_to_be_read_is_never_cleared(earlier):
    """Catches: fine-tuning a run's model into its own folder, which deletes the model first."""
    flags = ("--model", str(earlier / "checkpoint-9"), "--overwrite_output_dir")
    with pytest.raises(ValueError, match=r"holds .*checkpoint-9', which --overwrite_output_dir would clear"):
        claim(arguments(earlier, *flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective", "teacherless"], "objective='next_token', not 'teacherless'"),
        (["--order", "reversed"], "order='forward', not 'reversed'"),
        (["--num_nodes", "20"], "num_nodes=10, not 20"),
        (["--num_train", "7"], "num_train=200000, not 7"),
    ],
)
def test_a_run_resumes_only_as_what_it_began(earlier, flags, said):
    """Catches: 20 steps of one objective and 10 of another reported as 30 of the second."""
    before = content(earlier)
    with pytest.raises(ValueError, match=said):
        claim(arguments(earlier, "--resume", *flags))
    assert content(earlier) == before


def test_another_file_of_the_same_name_is_another_run(tmp_path):
    """Catches: rows, or a vocabulary, of another folder under a run that is resumed, as only last names are written."""
    for folder in ("a", "b"):
        (tmp_path / folder / "model").mkdir(parents=True)
        (tmp_path / folder / "model" / "tokenizer.json").write_text(folder, encoding="utf-8")
        (tmp_path / folder / "train.txt").write_text(folder, encoding="utf-8")
    named = {"train_file": "train.txt", "tokenizer": "model"}
    for name, last in named.items():
        folder = tmp_path / name
        assert claim(arguments(folder, f"--{name}", str(tmp_path / "a" / last))) is None
        (folder / "results.tmp").write_text("", encoding="utf-8")
        with pytest.raises(ValueError, match=f"began with content of {name}='ca978112.*', not '3e23e816.*'; resume it"):
            claim(arguments(folder, f"--{name}", str(tmp_path / "b" / last), "--resume"))
        (tmp_path / "a").rename(tmp_path / "c")  # moved, and the same
        assert claim(arguments(folder, f"--{name}", str(tmp_path / "c" / last), "--resume")) is None
        (tmp_path / "c").rename(tmp_path / "a")


def test_resuming_may_change_the_rest(earlier):
    """Catches: a run that cannot be given more steps or another test set."""
    flags = ("--max_steps", "50", "--num_test", "7", "--logging_steps", "5")
    assert claim(arguments(earlier, "--resume", *flags)) == str(earlier / "checkpoint-10")


@pytest.mark.parametrize(
    ("began", "now", "warned"),
    [
        (["--max_steps", "10"], ["--max_steps", "50"], True),
        (["--num_train_epochs", "2.6"], ["--num_train_epochs", "4"], True),
        (["--max_steps", "50"], ["--max_steps", "50"], False),
        (["--max_steps", "10", "--lr_scheduler_type", "constant"], ["--max_steps", "50"], False),
        (["--max_steps", "10", "--lr_scheduler_type", "constant_with_warmup"], ["--max_steps", "50"], False),
        (["--max_steps", "10", "--lr_scheduler_type", "inverse_sqrt"], ["--max_steps", "50"], False),
        (
            ["--max_steps", "10", "--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "0.1"],
            ["--max_steps", "50"],
            True,
        ),
    ],
)
def test_a_budget_that_bends_the_schedule_is_warned_of(earlier, caplog, began, now, warned):
    """Catches: a recipe of 50 steps, in silence, for a run whose rate had fallen to nothing after 10 and rose again; a
    warning where the rate knows no budget, or the budget is the same."""
    (earlier / "results.json").unlink()
    (earlier / "arguments.json").write_text(json.dumps(arguments(earlier, *began).to_dict()), encoding="utf-8")
    assert claim(arguments(earlier, "--resume", *began[2:], *now)).endswith("checkpoint-10")
    said = [record.getMessage() for record in caplog.records if "has other rates up to here" in record.getMessage()]
    assert len(said) == warned
    if warned:
        assert f"began with {began[0][2:]}={began[1]}, over which lr_scheduler_type=" in said[0]


def test_a_finished_run_is_not_resumed(earlier):
    """Catches: one more step, and new results, for a run that was complete."""
    with pytest.raises(ValueError, match="ended at step 10 and was tested; give it more to do by a larger"):
        claim(arguments(earlier, "--resume", "--max_steps", "10"))


def test_a_finished_training_goes_on_to_its_test(earlier):
    """Catches: a run killed between its last step and its test that can neither be resumed nor finished."""
    (earlier / "results.json").unlink()
    assert claim(arguments(earlier, "--resume", "--max_steps", "10")) == str(earlier / "checkpoint-10")


@pytest.mark.parametrize(
    ("began", "now", "said"),
    [
        (["--max_steps", "40"], ["--max_steps", "5"], "max_steps=5 leaves nothing to train"),
        (["--max_steps", "40"], ["--max_steps", "10"], "max_steps=10 leaves nothing to train"),
        (["--max_steps", "40"], ["--max_steps", "11"], None),
        (["--max_steps", "40"], ["--max_steps", "-1", "--num_train_epochs", "2"], "num_train_epochs=2 leaves nothing"),
        (["--num_train_epochs", "4"], ["--num_train_epochs", "2.5"], "num_train_epochs=2.5 leaves nothing to train"),
        (["--num_train_epochs", "4"], ["--num_train_epochs", "3"], None),
        (["--num_train_epochs", "2.5"], ["--num_train_epochs", "2.5"], None),  # finished, but for its test
    ],
)
def test_a_smaller_budget_is_no_end(earlier, began, now, said):
    """Two epochs and a half are ten steps. Catches: a verdict after 10 of 40 steps, and a recipe of 5 steps that no
    training had."""
    (earlier / "results.json").unlink()
    (earlier / "arguments.json").write_text(json.dumps(arguments(earlier, *began).to_dict()), encoding="utf-8")
    before, again = content(earlier), arguments(earlier, "--resume", *now)
    if said is None:
        assert claim(again).endswith("checkpoint-10")
        return
    with pytest.raises(ValueError, match=rf"is at step 10, so {said}.*; give a larger one, or the budget it had\.$"):
        claim(again)
    assert content(earlier) == before


def test_resume_passes_over_half_written_checkpoints(earlier, caplog):
    """Catches: training that goes on from half a checkpoint, or falls back without a word."""
    (earlier / "checkpoint-10" / "model").write_text("weig", encoding="utf-8")
    assert claim(arguments(earlier, "--resume")) == str(earlier / "checkpoint-9")
    assert f"{earlier / 'checkpoint-10'} is half-written (model has 4 bytes, not 7)" in caplog.text


def test_resume_begins_where_there_is_nothing_whole(earlier, tmp_path):
    """Catches: a job that was killed before its first checkpoint, and that a cluster can never start again."""
    for step in (9, 10):
        (earlier / f"checkpoint-{step}" / "manifest.json").unlink()
    (earlier / "results.json").unlink()
    assert claim(arguments(earlier, "--resume")) is None
    assert claim(arguments(tmp_path / "new", "--resume")) is None


def test_a_finished_run_without_a_checkpoint_is_not_begun_again(earlier):
    """Catches: `--resume` that trains a finished run from its first step and overwrites its model and results."""
    for step in (9, 10):
        (earlier / f"checkpoint-{step}" / "manifest.json").unlink()
    before = content(earlier)
    with pytest.raises(
        ValueError, match="has ended and left no checkpoint to go on from; --overwrite_output_dir trains"
    ):
        claim(arguments(earlier, "--resume", "--max_steps", "50"))
    with pytest.raises(ValueError, match=r"is not empty; add --overwrite_output_dir to replace it"):
        claim(arguments(earlier))
    assert content(earlier) == before


def test_an_earlier_test_is_not_that_of_what_came_later(earlier):
    """Catches: a run that was gone on with, and stopped before the step of its first end, called ended and tested."""
    again = ["--resume", "--max_steps", "10"]
    with pytest.raises(ValueError, match="ended at step 10 and was tested"):
        claim(arguments(earlier, *again))
    os.utime(earlier / "results.json", (0, 0))
    assert claim(arguments(earlier, *again)).endswith("checkpoint-10")


def test_resume_leaves_other_folders_alone(tmp_path):
    """Catches: `--resume` that trains into a folder of something else."""
    (tmp_path / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no earlier run"):
        claim(arguments(tmp_path, "--resume"))


def test_overwriting_and_resuming_exclude_each_other(earlier):
    """Catches: one of the two flags ignored in silence."""
    with pytest.raises(ValueError, match="overwrite_output_dir and resume exclude each other"):
        arguments(earlier, "--resume", "--overwrite_output_dir")
    with pytest.raises(ValueError, match="resume_from_checkpoint is not taken; give --resume"):
        arguments(earlier, "--resume_from_checkpoint", str(earlier / "checkpoint-9"))


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"task": {}}', '{"task": 1, "data": {}, "model": {}, "objective": {}}', "[" * 9999]
)
def test_damaged_arguments(earlier, text):
    """Catches: a JSON reader's own words, or a KeyError, for a file that was cut off."""
    (earlier / "arguments.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"output_dir .*arguments\.json .*; put the file back, or give --output_dir"):
        claim(arguments(earlier, "--resume"))


def test_a_twin_that_ended_meanwhile(tmp_path):
    """Catches: a run that replaces, or begins beside, what a twin has written since its own folder was checked."""
    late = arguments(tmp_path / "run")
    output_dir.check(late)
    claim(arguments(tmp_path / "run"))
    (tmp_path / "run" / "results.json").write_text('{"steps": 10}', encoding="utf-8")
    before = content(tmp_path / "run")
    with pytest.raises(ValueError, match="is not empty"), output_dir.claim(late):
        pass
    assert content(tmp_path / "run") == before


def test_a_checkpoint_that_came_meanwhile(earlier):
    """Catches: a resumed run that goes back behind the checkpoint that a twin has written since."""
    args = arguments(earlier, "--resume")
    output_dir.check(args)
    (earlier / "checkpoint-10").rename(earlier / "checkpoint-11")
    with output_dir.claim(args) as checkpoint:
        assert checkpoint.endswith("checkpoint-11")


def test_a_folder_in_use(tmp_path):
    """Catches: two runs in one folder; a lock that lasts longer than its run, or that only a process's end releases."""
    with output_dir.claim(arguments(tmp_path / "run")):
        with pytest.raises(
            ValueError, match=r"another process is at work in output_dir .*; wait until it ends, or give"
        ):
            output_dir.check(arguments(tmp_path / "run"))  # before data are built
        with (
            pytest.raises(ValueError, match="another process is at work"),
            output_dir.claim(arguments(tmp_path / "run")),
        ):
            pass
        claim(arguments(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt), output_dir.claim(arguments(tmp_path / "run")):
        raise KeyboardInterrupt
    claim(arguments(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "0.1"),
        ("optimizer", "muon"),
        ("weight_decay", "0.5"),
        ("lr_scheduler_type", "constant"),
        ("max_grad_norm", "0.5"),
        ("bf16", "true"),
        ("warmup_steps", "3"),
        ("seed", "7"),
        ("per_device_train_batch_size", "9"),
        ("gradient_accumulation_steps", "2"),
        ("train_sampling_strategy", "sequential"),
        ("dataloader_drop_last", "true"),
    ],
)
def test_a_resumed_run_goes_on_as_it_began(earlier, name, value):
    """Catches: a recipe and a card that name a rate, a schedule or a precision which half of the run did not have, a
    seed that the weights never had, examples counted by another batch size."""
    with pytest.raises(ValueError, match=rf"began with {name}=.*, not .*; resume it with the"):
        claim(arguments(earlier, "--resume", "--max_steps", "50", f"--{name}", value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accelerator_config", '{"use_seedable_sampler": false}'),
        ("torch_compile", "true"),
        ("optim_args", "momentum=0.9"),
        ("dataloader_in_order", "false"),
        ("average_tokens_across_devices", "false"),
    ],
)
def test_whatever_changes_the_training_is_recorded_and_kept(earlier, name, value):
    """Catches: other rows or updates behind a resume, in silence, because nobody had listed the argument."""
    flags = [f"--{name}", value]
    with pytest.raises(ValueError, match=rf"began with {name}='its default', not .*; resume it with the"):
        resumed(earlier, [], *flags)
    with pytest.raises(ValueError, match=rf"began with {name}=.*, not 'its default'; resume it with the"):
        resumed(earlier, flags)
    assert resumed(earlier, flags, *flags) == "checkpoint-10"
    (earlier / "recipe.yaml").write_text(recipe_text(arguments(earlier, *flags).to_dict()), encoding="utf-8")
    again = parse([str(earlier / "recipe.yaml"), "--output_dir", str(earlier)])
    assert again.to_dict()["training"][name] == arguments(earlier, *flags).to_dict()["training"][name]


def test_the_best_so_far_is_compared_by_its_own_metric(earlier):
    """Catches: an accuracy compared with the loss of the best model before; a run that can never drop its best."""
    saved = ("--eval_strategy", "steps", "--eval_steps", "5", "--save_strategy", "steps", "--save_steps", "5")
    best = (*saved, "--load_best_model_at_end", "true", "--metric_for_best_model")
    with pytest.raises(ValueError, match=r"began with metric_for_best_model='loss', not 'decision'"):
        resumed(earlier, [*best, "loss"], *best, "decision")
    assert resumed(earlier, [*best, "decision"], *best, "decision") == "checkpoint-10"
    assert resumed(earlier, [*best, "decision"], *saved) == "checkpoint-10"


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [("eval_strategy", "steps", "epoch"), ("eval_steps", 5, 10), ("eval_delay", 0, 20), ("eval_on_start", False, True)],
)
def test_a_curriculum_rises_when_it_would_have(earlier, name, before, now):
    """Catches: a resumed run whose evaluations, at which the sizes of its rows rise, come at other steps."""
    watched = {"eval_strategy": "steps", "eval_steps": 5, "eval_delay": 0, "eval_on_start": False}
    flags, changed = (
        [word for key, value in (watched | {name: given}).items() for word in (f"--{key}", str(value))]
        for given in (before, now)
    )
    rising = ["--path_length", "3-4", "--curriculum", "path_length"]
    with pytest.raises(ValueError, match=rf"began with {name}=.*, not .*; resume it with the"):
        resumed(earlier, [*rising, *flags], *rising, *changed)
    assert resumed(earlier, [*rising, *flags], *rising, *flags) == "checkpoint-10"
    assert resumed(earlier, flags, *changed) == "checkpoint-10"


def test_a_resumed_run_has_as_many_processes(earlier):
    """Catches: a job that a cluster gives fewer GPUs, with smaller steps, some rows seen twice and some never."""
    written = {**arguments(earlier).to_dict(), "processes": 2}
    (earlier / "arguments.json").write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(ValueError, match="began with num_processes=2, not 1; resume it"):
        claim(arguments(earlier, "--resume", "--max_steps", "50"))
    (earlier / "arguments.json").write_text(json.dumps({**written, "processes": 1}), encoding="utf-8")
    assert claim(arguments(earlier, "--resume", "--max_steps", "50")).endswith("checkpoint-10")


def resumed(earlier, began, *now):
    """The checkpoint with which a run that began with the flags `began` goes on with the flags `now`."""
    (earlier / "arguments.json").write_text(json.dumps(arguments(earlier, *began).to_dict()), encoding="utf-8")
    return claim(arguments(earlier, "--resume", "--max_steps", "50", *now)).split("/")[-1]


@pytest.mark.parametrize(("began", "now"), [("0", "2"), ("2", "0"), ("2", "4")])
def test_a_resumed_stream_is_divided_as_it_was(earlier, began, now):
    """Catches: rows of a stream that are trained on twice, and others never, by workers that divide it anew."""
    before, after = (["--streaming", "--dataloader_num_workers", number] for number in (began, now))
    with pytest.raises(ValueError, match=r"dataloader_num_workers=\d, not \d; resume it"):
        resumed(earlier, before, *after)
    assert resumed(earlier, before, *before) == "checkpoint-10"


def test_workers_that_change_no_row_may_be_changed(earlier):
    """Catches: a refusal where the rows are fixed, or one worker reads what the process itself would."""
    assert resumed(earlier, [], "--dataloader_num_workers", "2") == "checkpoint-10"
    assert resumed(earlier, ["--streaming"], "--streaming", "--dataloader_num_workers", "1") == "checkpoint-10"


def test_a_run_that_stopped_when_solved_is_finished(earlier):
    """Catches: a cluster's `--resume` that trains a solved and tested run again, as its steps are fewer than
    --max_steps."""
    flags = ["--max_steps", "40", "--stop_when_solved", "2", "--eval_strategy", "steps", "--eval_steps", "5"]
    (earlier / "arguments.json").write_text(json.dumps(arguments(earlier, *flags).to_dict()), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"ended at step 10 and was tested; give it more to do by a larger --max_steps or"
    ):
        claim(arguments(earlier, "--resume", *flags))
    assert claim(arguments(earlier, "--resume", "--max_steps", "40")).endswith("checkpoint-10")
    (earlier / "results.json").unlink()
    assert claim(arguments(earlier, "--resume", *flags)).endswith("checkpoint-10")
