"""Use of a finished run: recommendations, folding in new ratings, export.

May import everything except the scripts and the writers in `records`.
"""
