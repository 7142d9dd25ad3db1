"""Instructions and caches of the processor at hand, precisions that it emulates, and records of measurements."""
