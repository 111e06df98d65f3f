"""The usage snippet of a card: Python that runs as it stands, on the saved folder or from the Hub."""

import re

from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase

from nt_failures.data.tokenizer import encode_rows
from nt_failures.hub.card_data import PublishedModel
from nt_failures.tasks.base import Task

HERE = 'name = "."  # this folder'
"""The line that says where the model is; the pushed copy of a card names the repository instead."""

_NAME = re.compile(r'^name = "[^"\n]*"(?:  # this folder)?(?=\n(?:tokenizer = |run = nt_failures\.load))', re.MULTILINE)
"""The same line in any card of ours, also in one that came from a repository."""

_PIPELINE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

{name}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)
generate = pipeline("text-generation", model=model, tokenizer=tokenizer)
{prompt}
written = generate(prompt, {length}add_special_tokens=False, return_full_text=False)
print(written[0]["generated_text"]){right}"""

_REVERSED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

{name}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)
{prompt}
inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
written = model.generate(**inputs{length})[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(written.flip(0)))  # it writes from the end{right}"""

_OWN = """\
import nt_failures

{name}
run = nt_failures.load(name)
{prompt}
inputs = run.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
answer = run.objective.decode(run.model, inputs["input_ids"], length={length})
print(run.tokenizer.decode(answer[0])){right}"""


def named(card: str, repo_id: str) -> str:
    """A card whose snippet loads the model from this repository; every other word of it stays."""
    return _NAME.sub(lambda _: f'name = "{repo_id}"', card)


def notes(task: Task, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Markdown sentences: which labels a prompt may have, and how the printed answer differs from the right one."""
    labels = [symbol for symbol in task.symbols if symbol.isalnum()]
    numbered = len(labels) > 2 and labels == [str(i) for i in range(len(labels))]
    shown = f"{code(labels[0])} to {code(labels[-1])}" if numbered else ", ".join(map(code, labels))
    text = [f"Labels of a prompt are {shown}; the model was trained on no others."]
    if isinstance(tokenizer.backend_tokenizer.model, WordLevel):
        text.append("With any other the tokenizer raises `Missing [UNK] token`.")
    answer = instance(task)[1]
    printed = tokenizer.decode(encode_rows(tokenizer, [answer], [answer])["target_ids"][0])
    if printed != answer:
        text.append(f"Printed answers look a little different: {code(printed)} is the same answer as {code(answer)}.")
    return text


def code(text: str) -> str:
    """A code span of Markdown that nothing in the text can close."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{text}{ticks}" if "`" not in text else f"{ticks} {text} {ticks}"


def snippet(run: PublishedModel) -> str:
    """Code that asks the model for one held-out instance; without a task, for a prompt that is typed in."""
    prompt, right = 'prompt = input("prompt: ")', ""
    if run.task is not None:
        asked, answer = instance(run.task)
        prompt, right = f'prompt = "{asked}"', f"the right answer: {answer}"
    length = 'int(input("tokens: "))' if run.answer_tokens is None else str(run.answer_tokens)
    # peft reads the base model's generation settings, not the adapter's.
    asked_for = "" if run.settled and not run.adapter else f"max_new_tokens={length}, do_sample=False"
    if not run.objective.stock:
        template, given = _OWN, length
    elif run.objective.order == "reversed":
        template, given = _REVERSED, f", {asked_for}" if asked_for else ""
    else:
        template, given = _PIPELINE, f"{asked_for}, " if asked_for else ""
    if right:
        right = f"\n# {right}"
    code = template.format(name=HERE, prompt=prompt, length=given, right=right)
    return _with_peft(code) if run.adapter and run.objective.stock else code


def _with_peft(code: str) -> str:
    """The same code for an adapter: peft finds the base model and makes room for the adapter's own tokens."""
    head = "from peft import AutoPeftModelForCausalLM\n" + code.replace("AutoModelForCausalLM, ", "", 1)
    return head.replace("AutoModelForCausalLM.from", "AutoPeftModelForCausalLM.from", 1)


def instance(task: Task) -> tuple[str, str]:
    """Prompt and completion of the first held-out instance."""
    row = {name: column[:1] for name, column in task.block(0, "test", 0).items()}
    text = task.render(row)
    return text["prompt"].to_list()[0], text["completion"].to_list()[0]
