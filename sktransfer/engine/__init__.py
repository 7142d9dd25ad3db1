"""Run stages over samples: where, in which batches, and never twice for what is kept."""
