"""Built-in providers of backbones, written as plugins."""
