"""The models of sentence-transformers as backbones: `sentence-transformers/<hub id or local folder>`."""
