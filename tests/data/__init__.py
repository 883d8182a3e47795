"""Facts about `data`."""
