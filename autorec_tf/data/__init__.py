"""Ratings: what carries them, the formats that they are read from, what is published, titles.

May import `system` alone; settings come as arguments.
"""
