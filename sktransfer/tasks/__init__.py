"""Learning tasks: targets, losses, heads and predictions, one module per kind."""
