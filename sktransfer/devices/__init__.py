"""Memory of devices: copies to and from a GPU, values that stay on it, sizes of batches that fit."""
