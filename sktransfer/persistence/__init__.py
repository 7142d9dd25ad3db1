"""Estimators in a file of JSON, arrays and safetensors: no pickle, and no code but ours and scikit-learn's."""
