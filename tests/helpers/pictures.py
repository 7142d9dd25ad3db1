"""Detection of labels that a figure cuts off."""

from __future__ import annotations

from matplotlib import pyplot as plt


def cut_labels(figure):
    """Return the sides at which artists exceed the figure, each with the excess in inches."""
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    beyond = {"left": -box.x0, "right": box.x1 - width, "bottom": -box.y0, "top": box.y1 - height}
    return [(side, round(inches, 2)) for side, inches in beyond.items() if inches > 0.01]


def close():
    """Close all figures."""
    plt.close("all")
