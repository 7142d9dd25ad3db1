"""Pipelines of scikit-learn that are built from data: images, texts, and tables with columns of both."""
