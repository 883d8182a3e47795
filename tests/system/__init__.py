"""Facts about `system`."""
