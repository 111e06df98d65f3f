"""The usage snippet of a card: Python that runs as it stands, on the saved folder or from the Hub."""

from nt_failures.card_data import Run
from nt_failures.tasks.base import Task

HERE = 'name = "."  # this folder'
"""The line that says where the model is; replaced once the model has a place on the Hub."""

_PIPELINE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

{name}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)
generate = pipeline("text-generation", model=model, tokenizer=tokenizer)
{prompt}
answer = generate(prompt, {length}return_full_text=False)[0]["generated_text"]
print(answer){right}"""

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


def name_line(repo_id: str) -> str:
    """The line of a snippet that says where the model is."""
    return f'name = "{repo_id}"'


def snippet(run: Run) -> str:
    """Code that asks the model for one held-out instance; without a task, for a prompt that is typed in."""
    prompt, right = 'prompt = input("prompt: ")', ""
    if run.task is not None:
        asked, answer = instance(run.task)
        prompt, right = f'prompt = "{asked}"', f"the right answer: {answer}"
    length = 'int(input("tokens: "))' if run.answer_tokens is None else str(run.answer_tokens)
    asked_for = "" if run.settled else f"max_new_tokens={length}, do_sample=False"
    if not run.autoregressive:
        template, given = _OWN, length
    elif run.objective.order == "reversed":
        template, given = _REVERSED, f", {asked_for}" if asked_for else ""
    else:
        template, given = _PIPELINE, f"{asked_for}, " if asked_for else ""
    if right:
        right = f"\n# {right}"
    return template.format(name=HERE, prompt=prompt, length=given, right=right)


def instance(task: Task) -> tuple[str, str]:
    """Prompt and completion of the first held-out instance."""
    row = {name: column[:1] for name, column in task.block(0, "test", 0).items()}
    text = task.render(row)
    return text["prompt"].to_list()[0], text["completion"].to_list()[0]
