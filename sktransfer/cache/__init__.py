"""Storage of layer outputs by namespace and sample, in memory or in a folder."""
