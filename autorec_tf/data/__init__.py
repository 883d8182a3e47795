"""Ratings: their data types, the file formats, the published datasets, and titles.

May import `system` only; settings are arguments.
"""
