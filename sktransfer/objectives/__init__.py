"""Objectives of self-supervised tuning: tasks whose targets are the samples themselves."""
