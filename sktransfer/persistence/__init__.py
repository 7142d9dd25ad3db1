"""Save estimators to files of JSON, arrays and safetensors, and load them without pickle."""
