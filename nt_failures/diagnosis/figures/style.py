"""What all figures share. Made without a display; colours are Okabe and Ito's, safe for colour-blind eyes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
GREY = "#8A8A8A"


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, with one pair of axes."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    return figure, axes


def in_percent(axis: Axis) -> None:
    """Ticks of shares, from 0 to 1."""
    ticks = np.linspace(0, 1, 5)
    axis.set_ticks(ticks, [f"{tick:.0%}" for tick in ticks])


def grid(axes: Axes, along: str) -> None:
    """Faint lines behind all that is drawn, from the ticks of the axis `along`, x or y."""
    axes.grid(axis=along, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure to a `.png` file, without the version of matplotlib that would make its bytes differ.

    Example:
        >>> import io
        >>> figure, _ = new_axes(2.0, 1.0)  # inches
        >>> save(figure, file := io.BytesIO())  # or a path
        >>> file.getvalue()[1:4]
        b'PNG'
    """
    figure.savefig(path, metadata={"Software": None})


def literal(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar opens no formula, a line break no line."""
    return " ".join(text.replace("$", r"\$").split())
