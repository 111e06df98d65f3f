"""A model behind an OpenAI-compatible server: what is asked, what is measured, faults, the cache, the key."""

import json
import logging
import re
import runpy
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from api_stand_in import KEY, ApiStandIn, guess, plan, walker
from scripts import EXAMPLES, load

import nt_failures as ntf
from nt_failures.evaluation.api_server import ApiError, ApiServer
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.predictor import NotMeasured
from nt_failures.tasks import Hops, Siblings, chat

TASK = ntf.PathStar(2, 4, 20)
ROWS = TASK.block(0, "test", 0, rows=60)
PROMPTS = TASK.texts(ROWS)["prompt"].to_list()
FLAGS = ["--degree", "2", "--path_length", "4", "--num_nodes", "20", "--num_test", "60"]
DIALECTS = ["vllm", "llama.cpp"]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def talker(decide):
    """A chat model that thinks aloud, and answers between tags."""
    walk = walker(decide, 4)
    return lambda question: f"I see.\n<answer>{walk(question.splitlines()[-1]).splitlines()[0]}</answer> Done."


# ---------------------------------------------------------------- what is asked, and measured


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_measures_everything(dialect):
    """Clever Hans behind a server. Catches: forced predictions that see the model's own errors, or a wrong arm whose
    comma is left to the model; an answer that goes on behind its end."""
    with ApiStandIn(walker(guess, 4), dialect) as server:
        predictor = ntf.ApiPredictor("m", TASK, server.url)
        found = ntf.diagnose(predictor, TASK, ROWS)
    right = np.array([guess(sorted(map(str, c)), p) for c, p in children()]) == ROWS["path"][:, 1].astype(str)
    measured = found["forced_vs_free"]
    assert measured["forced"] == {1: 1.0, 2: right.mean(), 3: 1.0, 4: 1.0}
    assert measured["free"] == {1: 1.0, 2: right.mean(), 3: right.mean(), 4: right.mean()}
    assert measured["exact"] == right.mean() < 1
    assert found["clever_hans"]["follow_rate"] == 1.0
    assert set(found["not_measured"]) <= {"by_place", "learning_order"}
    assert predictor.about()["cut_off"] == 0
    asked = [body for _, body in server.requests]
    assert {path for path, _ in server.requests} == {"/v1/completions"}
    assert all(body["temperature"] == 0 and body["stop"] == ["\n"] and body["model"] == "m" for body in asked)
    assert {body["prompt"] for body in asked} >= set(PROMPTS)


def test_a_model_measures_the_same_behind_a_server(tiny_model):
    """An untrained GPT-2 whose answers differ from row to row, as it is and behind a server.

    Catches: what is measured through text taken for something else than what the weights say.
    """
    tokenizer = ntf.word_level_tokenizer(TASK)
    model = tiny_model("gpt2", "2x16", spread=0.5, known=tokenizer)

    def answer(text):
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        written = model.generate(ids, attention_mask=ids.ne(-1), max_new_tokens=5, do_sample=False, eos_token_id=None)
        return " " + tokenizer.decode(written[0, ids.shape[1] :])

    known = ntf.ModelPredictor(model, tokenizer, ntf.NextToken.from_tokenizer(tokenizer), TASK)
    with ApiStandIn(answer, cut=False) as server:
        asked = ntf.ApiPredictor("m", TASK, server.url)
        detours = TASK.detours(ROWS, np.random.default_rng(0))
        for answers in (ROWS["path"], detours):
            assert np.array_equal(asked.forced(ROWS, answers), known.forced(ROWS, answers))
            for given in (1, 2, np.arange(60) % 3 + 1):
                assert np.array_equal(asked.continued(ROWS, answers, given), known.continued(ROWS, answers, given))
        free = asked.free(ROWS)
    assert np.array_equal(free, known.free(ROWS))
    assert len(np.unique(free, axis=0)) > 10


def children():
    """The two children of the source, and the prompt without its last sign, of each row."""
    for edges, source, prompt in zip(ROWS["edges"], ROWS["source"], PROMPTS, strict=True):
        yield [int(b) for a, b in edges if a == source], prompt[:-1]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("decide", "name"), [(plan, "solved"), (guess, "not solved")])
def test_a_chat_measures_answers_alone(dialect, decide, name):
    """Catches: a verdict of Clever Hans from answers alone; 0 % in place of "not measured"; words around the tags read
    as nodes; the bare prompt asked for."""
    with ApiStandIn(talker(decide), dialect) as server:
        found = ntf.diagnose(ntf.ApiPredictor("m", TASK, server.url, prompt_style="chat"), TASK, ROWS)
    measured = found["forced_vs_free"]
    nothing = ("forced", "forced_exact", "forced_others", "snowball_prediction", "snowball_without_decision")
    assert [measured[key] for key in nothing] == [None] * 5
    assert found["clever_hans"] is None
    assert {"forced", "clever_hans"} <= set(found["not_measured"])
    assert found["verdict"]["name"] == name
    assert "Clever Hans +" not in found["verdict"]["text"]
    path, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert len(server.requests) == 60
    contents = {body["messages"][0]["content"] for _, body in server.requests}
    assert contents == {chat.question(TASK) + prompt for prompt in PROMPTS}
    assert body["max_tokens"] == 2048


def test_a_chat_answer_is_judged_whole():
    """Catches: a right path with more behind it, or with a word in it, taken as right, as a cut text would be."""
    path = ",".join(map(str, ROWS["path"][0]))
    rows = {name: column[:1] for name, column in ROWS.items()}
    for said, right in (
        (f"<answer>{path}</answer>", True),
        (f"<answer>{path.replace(',', ', ')}</answer>", True),
        (f"<answer>{path},3</answer>", False),
        (f"<answer>{path},foo</answer>", False),
        (f"<answer>{path}", False),
        (path, False),
        ("", False),
    ):
        with ApiStandIn(lambda question, said=said: said) as server:
            predictor = ntf.ApiPredictor("m", TASK, server.url, prompt_style="chat")
            assert Observations(predictor, TASK, rows).free.exact.tolist() == [right], said


@pytest.mark.parametrize("style", ["chat", "text"])
def test_null_is_told_from_an_empty_answer(style, tmp_path):
    """Catches: a model whose every answer is a refusal, or is without tags, reported like one of wrong answers; "None"
    read out of the file of answers."""
    said = iter([None, "", None, "<answer>1</answer>"] * 15)
    with ApiStandIn(lambda text: next(said)) as server:
        for again in range(2):  # from the server, and from the file
            predictor = ntf.ApiPredictor("m", TASK, server.url, style, cache=tmp_path / "answers.jsonl", concurrency=1)
            observed = Observations(predictor, TASK, ROWS)
            assert not observed.free.exact.any()
            about = [predictor.about()[name] for name in ("answers", "null", "untagged")]
            assert about == [60, 30, 15 if style == "chat" else 0], again
        assert len(server.requests) == 60
    if style == "text":
        with ApiStandIn(lambda text: None) as server:
            assert (ntf.ApiPredictor("m", TASK, server.url).forced(ROWS, ROWS["path"]) == -1).all()


def test_answers_that_differ_in_length():
    """Catches: the end of a shorter answer taken for a position; rows asked at positions that they lack."""
    task = Hops(6, 3, way=True)
    rows = task.block(0, "test", 0, rows=20)
    texts = task.texts(rows)
    right = dict(zip(texts["prompt"].to_list(), texts["completion"].to_list(), strict=True))

    def answer(text):
        prompt, _, shown = text.partition("=")
        return right[f"{prompt}="].removeprefix(shown)

    with ApiStandIn(answer) as server:
        observed = Observations(ntf.ApiPredictor("m", task, server.url), task, rows)
        assert observed.free.exact.all()
        assert observed.forced.exact.all()
        assert len(server.requests) <= 20 + int(task.lengths(rows).sum())


def test_a_drawn_answer_is_no_argmax():
    """Catches: forced accuracy of samples; an option that does not arrive, or one that cannot be left out."""
    with ApiStandIn(walker(plan, 4)) as server:
        predictor = ntf.ApiPredictor("m", TASK, server.url, options={"temperature": None, "seed": 3})
        predictor.free(ROWS)
        with pytest.raises(NotMeasured, match="drawn at temperature the server chooses"):
            predictor.forced(ROWS, ROWS["path"])
    assert all("temperature" not in body and body["seed"] == 3 for _, body in server.requests)


# ---------------------------------------------------------------- what goes wrong


REQUEST = {"model": "m", "prompt": "1,2/1,2=", "max_tokens": 9}


@pytest.mark.parametrize("faults", [[503], [429, 500], ["drop"], [503, "drop", 408]])
def test_a_busy_server_is_asked_again(faults):
    """Catches: a study that ends at the first hiccup."""
    with ApiStandIn(lambda text: "1,2") as server:
        server.faults = [*faults]
        (answer,) = ApiServer(server.url, max_retries=3).ask([REQUEST])
        assert answer.text == "1,2"
        assert len(server.requests) == 1 + len(faults)


def test_requests_are_on_their_way_together():
    """Each of four answers waits for the other three. Catches: one request after the other."""
    together = threading.Barrier(4)
    with ApiStandIn(lambda text: text[:-1]) as server:
        server.faults = [together] * 4
        asked = [{**REQUEST, "prompt": f"{i}="} for i in range(4)]
        answers = ApiServer(server.url, concurrency=4, timeout=60, max_retries=0).ask(asked)
    assert [answer.text for answer in answers] == ["0", "1", "2", "3"]


def test_a_server_that_hangs_is_given_up():
    """Catches: a run that waits for ever; one that says nothing of its timeout."""
    event = threading.Event()
    with ApiStandIn(lambda text: "1,2") as server:
        server.faults = [event, event]
        with pytest.raises(ApiError, match=r"gave no answer: Request timed out.*timeout 0.2 s, up to 1 further tries"):
            ApiServer(server.url, timeout=0.2, max_retries=1).ask([REQUEST])
        event.set()
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [(400, "status 400"), (401, "status 401"), ("page", "holds no answer."), ("none", "no such model")],
)
def test_what_no_second_try_mends(fault, said, tmp_path):
    """Catches: a wrong address tried again for minutes; a trace from inside a client in place of a reason; tries that
    were not made, a file that is not there, and the address doubted where it is as it should be."""
    with ApiStandIn(lambda text: "1,2") as server:
        server.faults = [fault]
        with pytest.raises(ApiError, match=re.escape(server.url)) as caught:
            ApiServer(server.url, cache=tmp_path / "answers.jsonl").ask([REQUEST])
        assert said in str(caught.value)
        assert not re.search(r"tries|answers\.jsonl|/v1\?", str(caught.value))
        assert len(server.requests) == 1


def test_a_torn_answer():
    """Catches: half an answer that ends in a trace of the JSON parser."""
    with ApiStandIn(lambda text: "1,2") as server:
        server.faults = ["half"] * 9
        with pytest.raises(ApiError):
            ApiServer(server.url, max_retries=0).ask([REQUEST])


def test_no_server():
    """Catches: a connection error without an address."""
    with ApiStandIn(lambda text: "") as server:
        url = server.url
    with pytest.raises(ApiError, match=f"{url} gave no answer: Connection error"):
        ApiServer(url, max_retries=0).ask([REQUEST])


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://me:secret@host/v1", "https://host/v1?key=secret"]
)
def test_addresses_that_are_none(url):
    """Catches: a password or a key in an address, which reports would repeat."""
    with pytest.raises(ValueError, match="the address of a server is http://HOST") as caught:
        ApiServer(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"max_retries": -1}, {"concurrency": 0}])
def test_numbers_out_of_range(given):
    """Catches: no try at all."""
    with pytest.raises(ValueError, match="at least 1 request at a time"):
        ApiServer("http://localhost/v1", **given)


# ---------------------------------------------------------------- the cache


def test_a_restart_asks_only_what_is_missing(tmp_path):
    """Catches: answers that are paid for twice; those lost that came before a failure; equal prompts asked twice."""
    requests = [{**REQUEST, "prompt": f"{i}="} for i in range(20)]
    cache = tmp_path / "deep" / "answers.jsonl"
    with ApiStandIn(lambda text: text[:-1]) as server:
        server.faults = [None] * 12 + [400]
        with pytest.raises(ApiError, match=re.escape(f"What was answered is in {cache}")):
            ApiServer(server.url, cache, concurrency=1).ask(requests)
        kept = len(cache.read_text().splitlines())
        assert kept == 12
        del server.requests[:]
        again = ApiServer(server.url, cache, concurrency=4).ask(requests + requests)
        assert [answer.text for answer in again] == [str(i) for i in range(20)] * 2
        assert len(server.requests) == 8
        assert ApiServer(server.url, cache).ask(requests) == again[:20]
        assert len(server.requests) == 8
        other = ApiServer(server.url, cache).ask([{**REQUEST, "prompt": "3=", "temperature": 1}])
        assert (other[0].text, len(server.requests)) == ("3", 9)  # another request


def test_a_killed_process_leaves_a_cache_that_goes_on(tmp_path):
    """Catches: a last line that a kill left half written read as an answer, or joined to the next one."""
    requests = [{**REQUEST, "prompt": f"{i}="} for i in range(3)]
    cache = tmp_path / "answers.jsonl"
    with ApiStandIn(lambda text: text[:-1]) as server:
        ApiServer(server.url, cache, concurrency=1).ask(requests)
        cache.write_bytes(cache.read_bytes()[:-10])
        del server.requests[:]
        found = ApiServer(server.url, cache, concurrency=1).ask(requests)
    assert [answer.text for answer in found] == ["0", "1", "2"]
    assert [body["prompt"] for _, body in server.requests] == ["2="]
    assert [json.loads(line)["text"] for line in cache.read_text().splitlines()] == ["0", "1", "2"]


def test_a_damaged_cache_is_named(tmp_path):
    """Catches: a line that somebody wrote, taken for an answer or passed over."""
    (tmp_path / "answers.jsonl").write_text('{"text": "1"}\n')
    with pytest.raises(ValueError, match=r"answers\.jsonl, line 1 is no answer that was kept"):
        ApiServer("http://localhost/v1", tmp_path / "answers.jsonl")


# ---------------------------------------------------------------- the key


def test_a_key_is_sent_and_written_nowhere(tmp_path, monkeypatch, caplog, capsys):
    """The stand-in repeats a wrong key in its error. Catches: a key in a log, an error, a report or the cache; one that
    is not sent."""
    caplog.set_level(logging.DEBUG)
    with ApiStandIn(walker(plan, 4), key=KEY) as server:
        monkeypatch.setenv("MY_KEY", f" {KEY}\n")  # as a file of keys is read
        main = load(EXAMPLES / "diagnose.py").main
        flags = ["m", "--api", server.url, "--api_key_variable", "MY_KEY", *FLAGS, "--output_dir", str(tmp_path / "o")]
        assert main(flags)["verdict"]["name"] == "solved"
        monkeypatch.setenv("MY_KEY", "sk-wrong-9876543210")
        with pytest.raises(ApiError, match=r"401.*Incorrect key: Bearer \*\*\*") as caught:
            main([*flags[:-1], str(tmp_path / "p")])
        monkeypatch.setenv("MY_KEY", "sk-\nwrong-9876543210")
        with pytest.raises(ValueError, match="the key in MY_KEY has characters that no header can hold") as bad:
            main([*flags[:-1], str(tmp_path / "q")])
    out, err = capsys.readouterr()
    texts = [out, err, caplog.text, repr(caught.value), repr(bad.value)]
    texts += [path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".jsonl", ".md")]
    assert len(texts) == 8
    for text in texts:
        assert KEY not in text
        assert "wrong-9876543210" not in text


def test_a_key_is_hidden_before_an_answer_is_cut(monkeypatch):
    """Catches: most of a key in an error, whose 500 characters end within it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = ApiServer("http://127.0.0.1:9/v1")
    for room in range(470, 500):
        answer = SimpleNamespace(create=lambda room=room, **_: "x" * room + KEY + "y" * 99)
        server._client = SimpleNamespace(completions=answer)
        with pytest.raises(ApiError, match="holds no answer") as caught:
            server._ask({"model": "m", "prompt": "1"})
        assert KEY[:8] not in str(caught.value)


@pytest.mark.parametrize("options", [{"model": "other"}, {"prompt": "1"}, {"messages": []}])
def test_options_ask_no_other_question(options):
    """Catches: figures of another model, or of other prompts, under this one's name."""
    with pytest.raises(ValueError, match="would ask another question"):
        ntf.ApiPredictor("m", ntf.PathStar(2, 3, 10), "http://127.0.0.1:9/v1", options=options)


def test_equal_prompts_are_not_drawn_for():
    """Catches: one drawn answer counted for each of many equal prompts, as if each had been asked."""
    with pytest.raises(ValueError, match="equal prompts are asked once, and Siblings counts"):
        ntf.ApiPredictor("m", Siblings(5, 50, 0), "http://127.0.0.1:9/v1", options={"temperature": 1})


def test_a_key_goes_to_no_other_server(monkeypatch):
    """Catches: a key handed on to wherever a server sends its callers."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ApiStandIn(lambda text: "1,2", key=KEY) as server, ApiStandIn(lambda text: "3,4") as other:
        server.faults = [other.url]
        (answer,) = ApiServer(server.url, max_retries=0).ask([REQUEST])
        assert (answer.text, server.keys, other.keys) == ("3,4", [f"Bearer {KEY}"], [None])


# ---------------------------------------------------------------- the command line


def test_the_command_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    """Catches: a page that passes answers off as forced accuracy; a folder with answers refused; answers asked again;
    cut-off answers that nobody is told of."""
    monkeypatch.chdir(tmp_path)
    flags = ["my-model", "--prompt_style", "chat", "--max_tokens", "30", *FLAGS]
    with ApiStandIn(talker(guess)) as server:
        main = load(EXAMPLES / "diagnose.py").main
        server.faults = [None] * 20 + [400]
        with pytest.raises(ApiError):
            main([*flags, "--api", server.url, "--concurrency", "1"])
        main([*flags, "--api", server.url])
        assert len(server.requests) == 61
    folder = tmp_path / "outputs" / "diagnosis" / "my-model-deg2-path4-nodes20-chat"
    names = ["answers.jsonl", "diagnosis.json", "diagnosis.md", "forced_vs_free.png", "graph.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    found = json.loads((folder / "diagnosis.json").read_text())
    assert found["forced_vs_free"]["forced"] is None
    assert found["api"]["url"] == server.url
    assert 0 < found["api"]["cut_off"] <= found["api"]["answers"] == 60
    page, out = (folder / "diagnosis.md").read_text(), " ".join(capsys.readouterr().out.split())
    for text in (" ".join(page.split()), out):
        assert "forced not measured: a chat gives whole answers alone" in text
        assert "clever_hans not measured: a chat gives whole answers alone" in text
        assert "answers were cut off before their end" in text
        assert "Not solved: " in text
        assert "forced free" not in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prompt_style", "chat"], "--prompt_style chat asks a server; give its address with --api"),
        (["--api", "http://localhost/v1", "--api_options", "{"], "--api_options='{' is not JSON"),
        (["--api", "http://localhost/v1", "--api_options", "[1]"], "--api_options='[1]' is not a JSON object"),
        (["--api", "http://localhost/v1", "--max_tokens", "0"], "max_tokens=0 leaves no answer; give at least 1"),
    ],
)
def test_flags_that_do_not_go_together(flags, said, monkeypatch, tmp_path):
    """Catches: a flag that is ignored, or a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["diagnose.py", "m", *flags])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / "diagnose.py"), run_name="__main__")
    assert stopped.value.code.startswith(f"error: {said}")


def test_without_the_package(tmp_path):
    """Catches: a trace of a failed import that does not say what to install."""
    (tmp_path / "openai.py").write_text("raise ImportError('hidden')\n")
    code = "import nt_failures as ntf; ntf.ApiPredictor('m', ntf.PathStar(), 'http://localhost/v1')"
    environment = {"PATH": "", "PYTHONPATH": f"{tmp_path}:{EXAMPLES.parent}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "needs openai: pip install 'nt_failures[api]'" in done.stderr
