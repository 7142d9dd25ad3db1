"""Language-model heads of backbones in use: missing tokens and perplexities."""
