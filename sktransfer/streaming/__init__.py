"""Features of data that are larger than memory, chunk by chunk, into files."""
