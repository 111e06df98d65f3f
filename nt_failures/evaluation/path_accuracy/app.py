"""The Space of this metric: paste answers and true paths, one a line, and read the scores.

`evaluate.utils.launch_gradio_widget` of evaluate 0.4.6 calls `gr.inputs`, which gradio dropped in its version 4.
"""

import html
from pathlib import Path

import gradio as gr

from nt_failures.evaluation.path_accuracy import PathAccuracy

MAX_ROWS = 1000

EXAMPLE = (
    "32,34,6,16,12\n32,3,19,47,28",
    "32,34,6,16,12\n32,34,6,16,12",
    "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=\n" * 2,
    2,
)


def score(predictions: str, references: str, prompts: str, decision_position: int | None) -> list[list[str]]:
    """Rows of the table, a name and its value, from one answer, one true path and maybe one prompt a line.

    gradio.Error for inputs that the metric cannot score; a blank line is an answer without nodes.
    """
    given, true, shown = (text.rstrip("\n").split("\n") for text in (predictions, references, prompts.strip()))
    try:
        if len(given) > MAX_ROWS:
            raise ValueError(f"{len(given):,} lines; this page takes {MAX_ROWS:,}. Score more in Python.")
        scores = PathAccuracy(keep_in_memory=True).compute(
            predictions=given,
            references=true,
            prompts=shown if shown != [""] else None,
            decision_position=decision_position,
        )
    except ValueError as error:
        raise gr.Error(html.escape(str(error)), duration=None) from error
    return [[name, str(value) if isinstance(value, int) else f"{value:.4f}"] for name, value in scores.items()]


def build() -> gr.Blocks:
    """The page: the inputs beside the scores, and the card below."""
    card = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    with gr.Blocks(title="Path accuracy", analytics_enabled=False) as page:
        gr.Markdown("# Path accuracy\nAnswers and true paths of path-star graphs, one a line.")
        with gr.Row():
            with gr.Column():
                predictions = gr.Textbox(EXAMPLE[0], label="Predictions", lines=4, max_lines=12)
                references = gr.Textbox(EXAMPLE[1], label="References", lines=4, max_lines=12)
                prompts = gr.Textbox(EXAMPLE[2], label="Prompts (optional)", lines=4, max_lines=12)
                position = gr.Number(EXAMPLE[3], label="Decision position", precision=0, minimum=1)
                button = gr.Button("Score", variant="primary")
            table = gr.Dataframe(
                score(*EXAMPLE), headers=["metric", "value"], datatype="str", interactive=False, label="Scores"
            )
        button.click(score, [predictions, references, prompts, position], table, api_name="score")
        gr.Markdown(card.split("---\n", 2)[-1])
    return page


if __name__ == "__main__":
    build().launch()
