"""Facts about `evaluation`."""
