"""Targets of several tasks as users pass them, turned into targets of each task."""
