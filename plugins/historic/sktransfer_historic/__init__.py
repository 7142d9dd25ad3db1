"""Backbones of sktransfer for two networks from before the transformers: AWD-LSTM and ELMo."""
