"""Whether something is cut off in a picture, as far as boxes tell."""

from __future__ import annotations

from matplotlib import pyplot as plt


def cut_labels(figure):
    """Return by how many inches what is drawn reaches beyond the figure, for each side where it does."""
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    beyond = {"left": -box.x0, "right": box.x1 - width, "bottom": -box.y0, "top": box.y1 - height}
    return [(side, round(inches, 2)) for side, inches in beyond.items() if inches > 0.01]


def close():
    """Close all figures."""
    plt.close("all")
