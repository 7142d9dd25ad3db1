"""Tags of words: schemes of spans, decoding, scores, and files."""
