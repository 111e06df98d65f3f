"""Watch a language model find its way through a path-star graph, under teacher forcing and on its own.

    python examples/space/app.py outputs/deg2-path5-nodes50-gpt2-4x64-next_token-forward-seed0
    python examples/space/app.py USER/MODEL                                        # from the Hub
    python examples/space/app.py gpt2 --degree 2 --path_length 4 --num_nodes 20    # a model that names no task

As a Space, the variable MODEL names the model.
"""

import argparse
import dataclasses
import functools
import os
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: gradio counts its imports too

import gradio as gr
import page
import steps

import nt_failures as ntf
from nt_failures import registry
from nt_failures.experiments import command_line, script
from nt_failures.models.load import check_length


def main(argv: list[str]) -> None:
    """Load the model and serve the page until stopped."""
    args = parse(argv)
    demo = build(Demo(args.model, *load(args)))
    demo.launch(**LAUNCH)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; without a model on it, the variable MODEL."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("model", nargs="?", default=os.environ.get("MODEL"), help="folder or Hub id; default: $MODEL")
    for field in dataclasses.fields(ntf.PathStar):
        parser.add_argument(f"--{field.name}", type=int, help="default: as the model was trained")
    parser.add_argument("--import_module", help="module of your own objective, which a model's file cannot import")
    args = parser.parse_args(argv)
    if not args.model:
        raise ValueError(
            "no model given; name the folder of a run or a Hub id: python examples/space/app.py FOLDER_OR_ID, or set "
            "the variable MODEL."
        )
    return args


def load(args: argparse.Namespace) -> tuple[ntf.ModelPredictor, ntf.PathStar]:
    """The model and its task, checked on one graph."""
    if args.import_module is not None:
        registry.import_own(args.import_module)
    try:
        loaded = ntf.load(args.model)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{args.model!r} is no folder with a model, and no Hub id within reach: {reason}") from error
    task = choose_task(args, loaded.task)
    predictor = ntf.ModelPredictor(loaded.model, loaded.tokenizer, loaded.objective, task)
    row = steps.test_graph(task, 0)
    check_length(loaded.model, predictor.longest(steps.columns_of(row)))
    steps.walk(predictor, row)  # which not every objective's model can be asked
    return predictor, task


def choose_task(args: argparse.Namespace, trained: ntf.Task | None) -> ntf.PathStar:
    """The task of the flags; what they leave open is as the model was trained."""
    names = [field.name for field in dataclasses.fields(ntf.PathStar)]
    given = {name: vars(args)[name] for name in names if vars(args)[name] is not None}
    if trained is None and len(given) < len(names):
        raise ValueError(
            f"{args.model} does not say which task it was trained on; give all of its parameters, for example "
            "--degree 2 --path_length 5 --num_nodes 50."
        )
    if trained is not None and not isinstance(trained, ntf.PathStar):
        raise ValueError(f"{args.model} was trained on {type(trained).__name__}; the demo draws path-star graphs only.")
    task = dataclasses.replace(trained, **given) if trained else ntf.PathStar(**given)
    if not task.alike:
        raise ValueError(
            f"{args.model} was trained on graphs of several sizes; give --degree and --path_length of one."
        )
    return task


class Demo:
    """The handlers of the page's controls: they turn what a visitor did into values of the components."""

    def __init__(self, name: str, predictor: ntf.ModelPredictor, task: ntf.PathStar):
        # The folder above is nobody's business on a public page.
        self.name = Path(name).name if Path(name).is_dir() else name
        self.predictor, self.task = predictor, task

    def test_graph(self, number: float | None) -> list:
        """Open a graph of the test split."""
        try:
            row = steps.test_graph(
                self.task, int(number) if number is not None and float(number).is_integer() else number
            )
        except ValueError as error:
            return self._refuse(error)
        return self._open(row, "")

    def another(self, number: float | None) -> list:
        """The next test graph, from the first after the last."""
        following = 0 if number is None or number < 0 else int(number) + 1
        try:
            steps.test_graph(self.task, following)
        except ValueError:
            following = 0
        return [following, *self.test_graph(following)]

    def own_line(self, line: str) -> list:
        """Open a pasted graph."""
        try:
            row = steps.own_line(self.task, line)
            check_length(self.predictor.model, self.predictor.longest(steps.columns_of(row)))
        except ValueError as error:
            return self._refuse(error)
        split = self.task.split_of(steps.columns_of(row))[0]
        unseen = 'a model trained with overlap="forbid" has not seen it'
        seen = "the model may have been trained on it" if split == "train" else unseen
        return self._open(row, f"Your own graph. It falls into the {split} split; {seen}.")

    def _refuse(self, error: ValueError) -> list:
        """Leave everything as it is and say why."""
        return [gr.skip()] * (len(OPENED) - 1) + [page.message(str(error), bad=True)]

    def _open(self, row: steps.Row, note: str) -> list:
        w = steps.walk(self.predictor, row)
        step = w.step(w.decision)
        why_not = steps.why_no_detour(self.predictor, row)
        arms = [] if why_not else steps.wrong_arms(row)
        choices = [(str(steps.revealed_node(arm, w.order)), i) for i, arm in enumerate(arms)]
        return [
            w,
            None,
            gr.Slider(minimum=1, maximum=w.length, value=step),
            gr.Dropdown(choices=choices, value=0 if arms else None, visible=len(arms) > 1),
            gr.Button(REVEAL, interactive=bool(arms)),
            steps.prompt(self.task, row),
            *self.show(w, None, step),
            page.message(note or (f"No wrong arm to reveal: {why_not}." if why_not else "")),
        ]

    def show(self, w: steps.Walk, wrong: tuple | None, step: float) -> list[str]:
        """Graph and steps at a step; with a wrong arm revealed, what the model made of it."""
        if w is None:  # a tab that was open when the demo was started again
            return [gr.skip(), gr.skip()]
        step = min(max(int(step), 1), w.length)
        if wrong is None:
            return [page.picture(w, w.ways[-1], step), page.steps(w, w.ways, step)]
        way, arm = wrong
        verdict = page.fate(steps.fate(w, way, arm), w, way, steps.revealed_node(arm, w.order))
        return [page.picture(w, way, step), page.steps(w, [*w.ways, way], step, verdict)]

    def go(self, w: steps.Walk, wrong: tuple | None, step: float, by: int) -> list:
        """Previous or next step."""
        if w is not None:
            step = min(max(int(step) + by, 1), w.length)
        return [step, *self.show(w, wrong, step)]

    def reveal(self, w: steps.Walk, wrong: tuple | None, arm: int | None, step: float) -> list:
        """Put the model on a wrong arm, from where the visitor steps on; a second click takes it back."""
        if wrong is not None or w is None:
            return [None, step, gr.Button(REVEAL), *self.show(w, None, step)]
        chosen = steps.wrong_arms(w.row)[arm or 0]
        wrong = (steps.detour(self.predictor, w.row, chosen), chosen)
        return [wrong, 2, gr.Button("Take it back"), *self.show(w, wrong, 2)]

    def other_arm(self, w: steps.Walk, wrong: tuple | None, arm: int, step: float) -> list:
        """Another arm was chosen: put the model on it, if it was on one."""
        return [gr.skip()] * 5 if wrong is None else self.reveal(w, None, arm, step)


OPENED = ("walk", "wrong", "step", "arm", "reveal", "line", "picture", "steps", "message")
REVEAL = "Reveal wrong arm"
THEME = gr.themes.Default(
    primary_hue="zinc", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], spacing_size="sm"
)
# No server-side rendering: it would start Node, and the page is one screen.
LAUNCH = {"theme": THEME, "css": page.CSS, "ssr_mode": False, "footer_links": [], "show_error": True}


def build(demo: Demo) -> gr.Blocks:
    """The page. One request at a time, over all visitors: decoding exchanges the model's generation settings."""
    one = {"concurrency_id": "one", "concurrency_limit": 1, "show_progress": "hidden"}
    with gr.Blocks(title="What teacher forcing hides", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(page.header(demo.name, demo.predictor.objective, demo.task))
        walk, wrong = gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=5, min_width=420):
                picture = gr.HTML(elem_id="picture")
                message = gr.HTML(elem_id="message")
                with gr.Row(elem_classes="nav"):
                    # Not precision=0: that would open graph 2 for 2.5.
                    number = gr.Number(0, label="Test graph", minimum=0, min_width=110, elem_id="number")
                    another = gr.Button("Another graph", min_width=110, elem_id="another")
                line = gr.Textbox(label="The line that the model reads; or paste your own", lines=2, elem_id="line")
                use = gr.Button("Use this line", size="sm", elem_id="use")
            with gr.Column(scale=7, min_width=560):
                with gr.Row(elem_classes="nav"):
                    back = gr.Button("◀ Previous", scale=2, min_width=90, elem_id="previous")
                    step = gr.Slider(1, 2, 1, step=1, label="Step", scale=3, min_width=150, buttons=[], elem_id="step")
                    forth = gr.Button("Next ▶", variant="primary", scale=2, min_width=90, elem_id="next")
                    arm = gr.Dropdown([], label="Wrong arm", scale=2, min_width=112, visible=False, elem_id="arm")
                    reveal = gr.Button(REVEAL, scale=2, min_width=160, elem_id="reveal")
                table = gr.HTML(elem_id="steps")
        opened = [walk, wrong, step, arm, reveal, line, picture, table, message]
        views = [picture, table]
        blocks.load(demo.test_graph, number, opened, api_name=False, **one)
        number.submit(demo.test_graph, number, opened, api_name="graph", **one)
        another.click(demo.another, number, [number, *opened], api_name="another", **one)
        gr.on([use.click, line.submit], demo.own_line, line, opened, api_name="own_line", **one)
        step.input(demo.show, [walk, wrong, step], views, api_name="show", **one)
        for button, by, name in ((back, -1, "previous"), (forth, 1, "next")):
            handler = functools.partial(demo.go, by=by)
            button.click(handler, [walk, wrong, step], [step, *views], api_name=name, **one)
        revealed = [wrong, step, reveal, *views]
        reveal.click(demo.reveal, [walk, wrong, arm, step], revealed, api_name="reveal", **one)
        arm.input(demo.other_arm, [walk, wrong, arm, step], revealed, api_name=False, **one)
    return blocks


if __name__ == "__main__":
    script.run(main)
