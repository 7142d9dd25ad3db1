"""Words as vectors: read, trained, continued, looked up, pooled."""
