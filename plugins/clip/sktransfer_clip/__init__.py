"""CLIP's two towers as backbones of sktransfer."""
