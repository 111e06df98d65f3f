"""Nothing let in: what files of other people name, hold or hide never runs, and secrets stay where they were given."""

import ast
import json
import logging
import pickle
import re
import runpy
import sys
from pathlib import Path

import datasets
import processes
import pytest
import torch
from huggingface_hub.errors import HFValidationError

from nt_failures.data.builder import PathStarBuilder
from nt_failures.diagnosis import report
from nt_failures.experiments import command_line
from nt_failures.hub.integrity import SUMS, save_run
from nt_failures.hub.load import load
from nt_failures.hub.push import push_run
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.models.load import load_model
from nt_failures.objectives import NextToken, find_objective, read_objective
from nt_failures.tasks import find_task
from nt_failures.tasks.path_star import PathStar

pytestmark = pytest.mark.slow

SOURCES = sorted(
    f for part in ("nt_failures", "examples", "dataset_scripts") for f in (processes.ROOT / part).rglob("*.py")
)
TOKEN = "hf_" + "planted" * 5

FORBIDDEN = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN |= {"yaml.full_load", "numpy.load", "np.load", "torch.load", "tempfile.mktemp", "marshal.loads"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def faults(tree):
    """What a reader of the code would stop at, as text."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"import {name}" for name in named if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in FORBIDDEN and not (called == "torch.load" and given.get("weights_only") == "True"):
                yield called
            if given.get("shell", "False") != "False" or given.get("trust_remote_code", "False") != "False":
                yield ast.unparse(node)
            loads = re.fullmatch(r"(Auto\w+|PreTrained\w+)\.from_pretrained", called)
            if loads and given.get("trust_remote_code") != "False":
                yield f"{called} leaves the choice about the model's own code to whoever sits at the terminal"


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: str(f.relative_to(processes.ROOT)))
def test_sources_run_nothing_foreign(source):
    """Catches: a pickle read, a shell, eval, a YAML loader that builds objects, code of a model's author allowed."""
    assert list(faults(ast.parse(source.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "eval('1')",
        "yaml.load(text, Loader)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "subprocess.run('ls', shell=True)",
        "load(name, trust_remote_code=True)",
        "load(name, trust_remote_code=args.trust)",
        "AutoModelForCausalLM.from_pretrained(name)",
    ],
)
def test_the_reader_of_sources_stops_at(line):
    """Catches: a check that lets everything pass."""
    assert list(faults(ast.parse(line)))


# Models of other people ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, tiny_model, tokenizer):
    """A whole model of somebody, and beside it modules that must not run."""
    tiny_model("gpt2").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    save_run(tmp_path / "model", NextToken(), PathStar(2, 3, 10))
    return tmp_path / "model"


def planted_module(tmp_path, monkeypatch, name):
    """A module on the path whose import leaves a mark."""
    mark = tmp_path / f"{name}-has-run"
    own = "from nt_failures.objectives.next_token import NextToken\nclass Mine(NextToken):\n    pass\n"
    (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n{own}")
    monkeypatch.syspath_prepend(tmp_path)
    return mark


def rename(folder, kind, name):
    described = json.loads((folder / RUN_FILE).read_text())
    described[kind][kind] = name
    del described[SUMS]  # theirs would be right
    (folder / RUN_FILE).write_text(json.dumps(described))


@pytest.mark.parametrize("kind", ["objective", "task"])
def test_a_models_file_imports_nothing(folder, tmp_path, monkeypatch, kind):
    """Catches: a repository that has any module of this machine imported, which is to run it."""
    mark = planted_module(tmp_path, monkeypatch, f"planted_{kind}")
    rename(folder, kind, f"planted_{kind}.Mine")
    with pytest.raises(ValueError, match=rf"`import planted_{kind}` first.*--import_module"):
        load(str(folder))
    assert not mark.exists()
    assert f"planted_{kind}" not in sys.modules


ODD = ["os.system", "subprocess.Popen", "antigravity.x", "this.s", "nt_failures.evaluation.path_accuracy.app.launch"]
ODD += [
    "../../x",
    "/etc/passwd",
    "next_token\0",
    "a b.C",
    "..x",
    "nt_failures.objectives.base.Objective.__init__",
    "x" * 9999,
]


@pytest.mark.parametrize("name", ODD, ids=lambda name: repr(name[:30]))
def test_odd_names_in_a_models_file(folder, name):
    """Catches: a module imported, a file opened or another error than ValueError for a name that is no class of
    ours."""
    before = set(sys.modules)
    rename(folder, "objective", name)
    with pytest.raises(ValueError):
        load(str(folder))
    assert {m for m in set(sys.modules) - before if m.split(".")[0] in ("antigravity", "this", "gradio")} == set()


def test_ones_own_class_comes_back(folder, tmp_path, monkeypatch):
    """Catches: a user who cannot load what they trained; the import is what says that a module is trusted."""
    mark = planted_module(tmp_path, monkeypatch, "planted_and_trusted")
    mine = find_objective("planted_and_trusted.Mine")
    assert mark.exists(), "the command line imports what it names"
    rename(folder, "objective", "planted_and_trusted.Mine")
    assert type(load(str(folder)).objective) is mine
    assert read_objective({"objective": "nt_failures.objectives.next_token.NextToken"}) == NextToken()


def test_diagnose_imports_what_is_typed(folder, tmp_path, monkeypatch, capsys):
    """Catches: an objective of one's own that cannot be diagnosed in a process of its own."""
    planted_module(tmp_path, monkeypatch, "planted_for_diagnosis")
    rename(folder, "objective", "planted_for_diagnosis.Mine")
    main = runpy.run_path(str(processes.ROOT / "examples" / "diagnose.py"), run_name="diagnose")["main"]
    command = [str(folder), "--num_test", "8", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--import_module planted_for_diagnosis"):
        main(command)
    with pytest.raises(ValueError, match="cannot import 'no_such_module'"):
        main([*command, "--import_module", "no_such_module"])
    assert main([*command, "--import_module", "planted_for_diagnosis"])["forced_vs_free"]["n"] == 8


class _Harm:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


@pytest.mark.parametrize("read", [load, lambda name: load_model(name, None, 8)], ids=["load", "load_model"])
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_do_not_run(folder, tmp_path, read, file):
    """Catches: weights that are a pickle, under either name, unpickled: that runs what their author put there."""
    (folder / "model.safetensors").unlink()
    harm = _Harm(str(tmp_path / "harm"))
    torch.save({"transformer.wte.weight": harm}, folder / file)
    with pytest.raises(Exception) as error:  # of four kinds, none of which matters here
        read(str(folder))
    assert not isinstance(error.value, AssertionError)
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(harm))
    assert (tmp_path / "harm").exists(), "the plant works"


@pytest.mark.parametrize("read", [load, lambda name: load_model(name, None, 8)], ids=["load", "load_model"])
def test_code_of_a_model_does_not_run(folder, tmp_path, read, monkeypatch):
    """Catches: `auto_map` obeyed, or a question at the terminal whether to obey it."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w').close()\nclass Config:\n    pass\n")
    config = json.loads((folder / "config.json").read_text())
    theirs = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Config"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "theirs", "auto_map": theirs}))
    with pytest.raises(ValueError):
        read(str(folder))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("option", [{"trust_remote_code": True}, {"use_safetensors": False}])
def test_what_load_decides_itself(folder, option):
    """Catches: a TypeError of Python's about an argument given twice."""
    with pytest.raises(ValueError, match=rf"load\(\.\.\., {next(iter(option))}=.*is refused: no code"):
        load(str(folder), **option)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/no/such", "a\0b", "https://x/y", "a/b/c", "", "-x", "~/x"])
def test_odd_model_names(name):
    """Catches: a path that leaves its folder, a crash of another kind on a name that is none."""
    with pytest.raises((ValueError, OSError, HFValidationError)):
        load(name)


# Names that become paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "/abs", "a\0b", "deg2-path5-nodes50/../../x", ".", ""])
def test_config_names_are_no_paths(tmp_path, name):
    """Catches: a cache folder above the cache."""
    with pytest.raises(ValueError, match="is not a config"):
        PathStarBuilder(cache_dir=str(tmp_path / "cache"), config_name=name)
    assert not (tmp_path / "cache").exists()


def test_run_folders_stay_below_outputs(tmp_path, monkeypatch):
    """Catches: `--model ../../x` or a class's name that moves the default folder of a run out of outputs/."""
    from nt_failures.experiments import output_dir

    monkeypatch.chdir(tmp_path)
    for model in ("../../x", "/abs/x", "..", ".", "~/x"):
        args = command_line.parse(["--model", model, "--use_cpu", "true"])
        output_dir.check(args)
        made = (tmp_path / args.training.output_dir).resolve()
        assert made.parent == tmp_path / "outputs"


@pytest.mark.parametrize("name", ["../x", "..", "/abs", "a\0b", "next_token/../base", "next_token.py", ""])
@pytest.mark.parametrize("find", [find_objective, find_task])
def test_class_names_are_no_paths(find, name):
    """Catches: a file of elsewhere run as an objective."""
    with pytest.raises(ValueError):
        find(name)


# What is shown, and what is not --------------------------------------------------------------------------------------


def test_markdown_shows_and_never_interprets():
    """Catches: a name of a model that becomes HTML, a link, a table cell, a heading or a line of its own."""
    from markdown_it import MarkdownIt

    evil = "<img src=x onerror=a()> [l](javascript:a()) | `c` *b* _i_ ~~s~~\n# h\n![i](http://x) <!-- $x$ &lt;"
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(report.markdown(evil))
    assert re.sub(r"&\w+;", "", shown).count("<") == 2, "one paragraph and nothing in it"
    assert shown.startswith("<p>")


def test_tokens_are_written_nowhere(tmp_path, monkeypatch, caplog, capfd):
    """Catches: a token in results, recipe, card, checkpoints, logs, the terminal or a pickle of the arguments."""
    main = runpy.run_path(str(processes.ROOT / "examples" / "train.py"), run_name="train")["main"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"hub_token: {TOKEN}\nmodel: gpt2-1x16\nmax_steps: 2\ndegree: 2\npath_length: 3\nnum_nodes: 10\n")
    flags = "--num_train 32 --num_validation 8 --num_test 8 --use_cpu true --save_strategy steps --save_steps 1"
    with caplog.at_level(logging.DEBUG):
        main([str(recipe), "--output_dir", str(tmp_path / "run"), *flags.split()])
    written = [f for f in (tmp_path / "run").rglob("*") if f.is_file()]
    assert len(written) > 10
    assert [f for f in written if TOKEN.encode() in f.read_bytes()] == []
    shown = capfd.readouterr()
    assert TOKEN not in caplog.text + shown.out + shown.err


GIVEN = ["--hub_token", TOKEN]
SLIPS = [["--hub_tokn", TOKEN], [f"--hub_tokn={TOKEN}"], [*GIVEN, "--degree", "0"], [*GIVEN, "--max_steps", "x"]]
SLIPS += [[*GIVEN, "--hub_strategy", "checkpoint"]]


@pytest.mark.parametrize("words", SLIPS)
def test_tokens_are_in_no_error(words):
    """Catches: a message that repeats the whole command line."""
    with pytest.raises(ValueError) as error:
        command_line.parse([*words, "--use_cpu", "true"])
    assert TOKEN not in str(error.value)


def test_a_broken_recipe_does_not_show_its_token(tmp_path):
    """Catches: the YAML reader's own message, which quotes the line."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"hub_token: {TOKEN}: x\n")
    with pytest.raises(ValueError, match=r"not valid YAML.*line 1") as error:
        command_line.parse([str(recipe)])
    assert TOKEN not in str(error.value)


def test_a_failed_push_does_not_show_its_token(finished, monkeypatch):
    """Catches: a header or address of the request in the message."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(OSError) as error:
        push_run(finished(), "someone/model", token=TOKEN)
    causes = [error.value]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    assert all(TOKEN not in f"{cause} {cause!r}" for cause in causes)
