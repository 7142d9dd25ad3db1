"""Fitted estimators as modules of torch: for explanations, and for inference without sktransfer."""
