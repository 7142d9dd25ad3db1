"""Training of stages and heads."""
