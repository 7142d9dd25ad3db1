"""Forward passes of frozen backbones: batches, workers, layer outputs and cache lookups."""
