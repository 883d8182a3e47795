"""Facts about `records`."""
