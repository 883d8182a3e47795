"""Facts about `serving`."""
