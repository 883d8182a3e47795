"""Everything that can go wrong, done to the real program: `python -m tests.faults`."""
