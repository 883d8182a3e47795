"""Facts about `model`."""
