"""Plots in scikit-learn's display convention. matplotlib is imported when a plot is drawn."""
