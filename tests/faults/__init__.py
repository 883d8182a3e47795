"""Faults that are injected into the real program: `python -m tests.faults`."""
