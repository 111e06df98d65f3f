"""The demo's HTML: every text that comes from a model, a tokenizer or a visitor is escaped here, and nowhere else."""

import base64
import html
import io
from collections.abc import Sequence

from steps import Walk, Way

import nt_failures as ntf
from nt_failures.diagnosis import figures

NAMES = {
    "forced": "Teacher forcing",
    "free": "On its own",
    "parallel": "In parallel",
    "wrong arm": "Wrong arm revealed",
}
SEES = {
    "forced": "shown the right nodes",
    "free": "shown its own nodes",
    "parallel": "shown no nodes",
    "wrong arm": "its start was given",
}

HELD_OUT = 'Graphs of the test split are held out if it was trained with overlap="forbid", the default.'
"""The demo cannot know: a model names its task, not its training rows."""

CSS = f"""
.nav {{ align-items: center; }}
.nav button {{ min-height: 44px; font-size: 14px; padding: 0 6px; white-space: nowrap; }}
.gradio-container {{ max-width: 1340px !important; padding: 8px 12px !important; }}
/* White paper in the dark theme too: the graph's colours are chosen for it. */
.ntf {{ background: #fff; font-family: system-ui, sans-serif; font-size: 15px; line-height: 1.35; padding: 4px;
  border-radius: 6px; }}
.gradio-container .ntf, .gradio-container .ntf * {{ color: #1a1a1a; }}
.gradio-container .ntf h1, .gradio-container .ntf h2 {{ color: #1a1a1a !important; }}
.ntf h1 {{ font-size: 21px; margin: 0 0 2px; }}
.ntf p {{ margin: 2px 0; line-height: 1.35; }}
.gradio-container .ntf .dim {{ color: #595959; font-size: 13px; }}
.ntf .graph {{ max-height: 310px; overflow-y: auto; }} .ntf img {{ width: 100%; }}
.ntf table.overview {{ border-collapse: separate; border-spacing: 4px 3px; width: 100%; margin: 0; border: none; }}
.ntf .overview th {{ text-align: left; font-weight: 400; padding: 1px 4px; white-space: nowrap; border: none; }}
.ntf .overview thead th {{ text-align: center; font-size: 13px; color: #595959; padding: 0 4px; }}
.ntf .scroll {{ overflow-x: auto; }}
.ntf .overview td {{ text-align: center; padding: 2px 4px; font-size: 16px; font-weight: 600;
  border: 2px solid transparent;
  border-radius: 5px; min-width: 40px; white-space: nowrap; }}
.ntf .overview td.right {{ background: #D6E8F4; }} .ntf .overview td.wrong {{ background: #FADFCB; }}
.ntf .overview td.given {{ background: #E6E6E6; }} .ntf .overview small {{ font-weight: 400; }}
.ntf .overview td.now {{ border-color: #1a1a1a; }}
.ntf .overview td.sum {{ font-weight: 400; text-align: left; min-width: 0; }}
.gradio-container .ntf .right b {{ color: {figures.BLUE}; }} .gradio-container .ntf .wrong b {{ color: #A84A00; }}
.ntf .panels {{ display: flex; gap: 12px; flex-wrap: wrap; }}
.ntf .panel {{ flex: 1 1 260px; border: 1px solid #C8C8C8; border-radius: 6px; padding: 5px 8px; min-width: 0; }}
.ntf .panel h2 {{ font-size: 15px; margin: 0; }} .ntf .panel h2 .dim {{ font-weight: 400; }}
.ntf .node {{ display: inline-block; border: 1px solid #8A8A8A; border-radius: 10px; padding: 0 6px; margin: 1px 0; }}
.ntf .bar {{ display: flex; align-items: center; gap: 6px; height: 21px; }}
.ntf .bar .name {{ width: 60px; text-align: right; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }}
.ntf .bar .rail {{ flex: 1; height: 13px; }} .ntf .bar .fill {{ height: 13px; min-width: 1px; background: #8A8A8A; }}
.ntf .bar .fill.right {{ background: {figures.BLUE}; }} .ntf .bar .fill.wrong {{ background: {figures.VERMILION}; }}
.ntf .bar .share {{ width: 52px; text-align: right; font-variant-numeric: tabular-nums; }}
.ntf .alert {{ border-left: 4px solid {figures.VERMILION}; padding: 4px 8px; overflow-wrap: anywhere; }}
.ntf .note {{ border-left: 4px solid {figures.BLUE}; padding: 4px 8px; overflow-wrap: anywhere; }}
"""


def header(name: str, objective: ntf.Objective, task: ntf.PathStar) -> str:
    """Title, the one thing to understand, and which model this is."""
    if objective.decodings[0] == "parallel":
        point = (
            "This model was trained without a teacher and writes all nodes in one pass: no node is ever revealed to "
            "it, so there is no teacher forcing to compare with."
        )
    elif objective.order == "reversed":
        point = (
            "This model writes the path from the goal back to the source. Each node has one parent only, so every step "
            "is a look-up, and it needs no plan."
        )
    else:
        point = (
            "Under <b>teacher forcing</b> the model is shown the right nodes so far, so every step but one is a "
            "look-up, and one that has learnt the look-ups alone seems to have learnt the task. <b>On its own</b> it "
            f"must choose one of {task.degree} arms at the decision; a model of look-ups guesses, and goes on along "
            "its guess."
        )
    trained = objective.trained_positions
    alone = f" Trained on position {', '.join(map(str, trained))} alone; the others are junk." if trained else ""
    kind = f"{type(objective).__name__}, {objective.order} order"
    return (
        f'<div class="ntf"><h1>Find the way from the source to the goal: what teacher forcing hides</h1><p>{point}</p>'
        f'<p class="dim">Model: {html.escape(name)} ({html.escape(kind)}), task {html.escape(task.config_name)}.'
        f"{alone} {HELD_OUT}</p></div>"
    )


def message(text: str, bad: bool = False) -> str:
    """A line below the controls, empty for no text."""
    kind, role = ("alert", "alert") if bad else ("note", "status")
    return f'<div class="ntf"><p class="{kind}" role="{role}">{html.escape(text)}</p></div>' if text else ""


def picture(w: Walk, way: Way, step: int) -> str:
    """The graph with the answer drawn up to a step, an image with a text for those who cannot see it."""
    answer = w.so_far(way, step)
    title = f"{NAMES[way.name]}, step {step} of {w.length}: {', '.join(map(_node, answer))}"
    figure = figures.path_star(**w.row, answer=answer, title=title)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    says = f"Graph: source {w.row['source']}, goal {w.row['goal']}. {title}"
    image = f'<img alt="{html.escape(says)}" src="data:image/svg+xml;base64,{data}">'
    return f'<div class="ntf"><div class="graph" tabindex="0">{image}</div></div>'


def steps(w: Walk, ways: Sequence[Way], step: int, verdict: str = "") -> str:
    """The table of all positions and, for the current one, a panel for each way."""
    hidden = {"free"} if ways[-1].name == "wrong arm" else set()  # two panels fit side by side
    panels = "".join(panel(w, way, step) for way in ways if way.name not in hidden)
    last = f'<p class="verdict">{html.escape(verdict or summary(w))}</p>'
    return f'<div class="ntf">{overview(w, ways, step)}{last}<div class="panels">{panels}</div></div>'


def summary(w: Walk) -> str:
    """What this graph shows, in one sentence."""
    rights = {way.name: sum(w.right(way, k) for k in range(1, w.length + 1)) for way in w.ways}
    own = w.ways[-1]
    if rights[own.name] == w.length:
        return (
            "Right on this graph." if len(w.ways) == 1 else "Right on this graph, with the teacher's help and without."
        )
    first = next(w.position(s) for s in range(1, w.length + 1) if not w.right(own, w.position(s)))
    where = f"position {first}" + (", the decision" if first == w.decision else "")
    if len(w.ways) == 1:
        return f"{rights[own.name]} of {w.length} nodes are right; the first wrong one is at {where}."
    taught = f"Teacher forcing counts {rights['forced']} of {w.length} nodes as right"
    if rights["forced"] > rights["free"]:
        return f"{taught}, yet the path that the model writes on its own is wrong, first at {where}."
    return f"{taught}; on its own the model goes wrong first at {where}."


def fate(what: str, w: Walk, way: Way, node: int) -> str:
    """What became of a model on a wrong arm."""
    ends = {
        "follow": "it went on along the wrong arm",
        "jump": "it jumped to the right arm",
        "neither": "it left the wrong arm, but not for the right one",
    }
    end = "goal" if w.order == "forward" else "source"
    copied = f" (The {end} at the end is a copy from the prompt.)" if w.right(way, w.position(w.length)) else ""
    return f"Given {node}, {ends[what]}.{copied}"


def overview(w: Walk, ways: Sequence[Way], step: int) -> str:
    """Right path and answers, one column per position."""
    positions = range(1, w.length + 1)
    now = w.position(step)
    heads = "".join(f"<th>{k}{' (decision)' if k == w.decision else ''}</th>" for k in positions)
    truth = "".join(f'<td class="{_now(k, now)}">{w.row["path"][k - 1]}</td>' for k in positions)
    lines = [f"<tr><th>Right path</th>{truth}<td></td></tr>"]
    for way in ways:
        cells = ""
        for k in positions:
            given = w.step(k) <= way.given
            right = w.right(way, k)
            kind, mark = ("given", "given") if given else ("right", "✓") if right else ("wrong", "✗")
            small = f"<small>{mark}</small>" if given else f"<b>{mark}</b>"
            cells += f'<td class="{kind}{_now(k, now)}">{_node(way.answer[k - 1])} {small}</td>'
        count = sum(w.right(way, k) for k in positions if w.step(k) > way.given)
        lines.append(
            f'<tr><th>{NAMES[way.name]}</th>{cells}<td class="sum">{count} of {w.length - way.given}</td></tr>'
        )
    head = f"<thead><tr><th></th>{heads}<th></th></tr></thead>"
    return f'<div class="scroll"><table class="overview">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def panel(w: Walk, way: Way, step: int) -> str:
    """One way at one step: shown so far, prediction, right node, and the likeliest tokens."""
    k = w.position(step)
    before = " ".join(f'<span class="node">{_node(node)}</span>' for node in w.before(way, step))
    shown = before or ('<span class="dim">dummies, $, in place of all nodes</span>' if way.name == "parallel" else "")
    shown = f"<p>Position {k}, shown: <span class='node'>graph</span> {shown}</p>"
    right, predicted = w.row["path"][k - 1], way.answer[k - 1]
    if step <= way.given:
        says = f"<p class='says'>Given: {_node(predicted)}.</p>"
    elif w.right(way, k):
        says = f"<p class='says right'>Writes {_node(predicted)}: <b>✓ right</b>.</p>"
    else:
        written = _node(predicted) if predicted >= 0 else "no node"
        says = f"<p class='says wrong'>Writes {written}: <b>✗ wrong</b>, the right node is {right}.</p>"
    bars = "".join(_bar(text, share, right, predicted) for text, share in way.candidates[k - 1])
    bars = bars or "<p class='dim'>No probabilities: what it wrote before is no node of this task.</p>"
    head = f"<h2>{NAMES[way.name]} <span class='dim'>{SEES[way.name]}</span></h2>"
    return f'<div class="panel" data-way="{way.name}">{head}{shown}{says}{bars}</div>'


def _bar(text: str, share: float, right: int, predicted: int) -> str:
    name = text.strip()
    kind = "right" if name == str(right) else "wrong" if name == str(predicted) else ""
    return (
        f'<div class="bar"><span class="name">{visible(text)}</span><span class="rail">'
        f'<div class="fill {kind}" style="width:{share:.1%}"></div></span><span class="share">{share:.1%}</span></div>'
    )


def visible(text: str) -> str:
    """A token as safe HTML that can be seen: what has no look of its own is written as Python would."""
    shown = text if text.strip() and text.isprintable() else repr(text)
    return html.escape(shown if len(shown) <= 12 else shown[:11] + "…")


def _node(node: int) -> str:
    return "?" if node < 0 else str(node)


def _now(k: int, now: int) -> str:
    return " now" if k == now else ""
