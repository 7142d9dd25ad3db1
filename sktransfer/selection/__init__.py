"""Which backbone, and which layer of it, suits some data: scores, rankings, and an estimator that chooses."""
