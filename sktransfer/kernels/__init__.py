"""Modules for fast inference on the CPU. The output for a sample does not depend on its batch."""
