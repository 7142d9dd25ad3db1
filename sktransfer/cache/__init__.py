"""Storage of layer outputs: what is kept, where and for how long."""
