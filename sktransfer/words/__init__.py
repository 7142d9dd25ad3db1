"""Word vectors: loading, training, lookup and pooling."""
