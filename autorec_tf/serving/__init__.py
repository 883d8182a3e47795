"""What a finished run is for: recommending, folding in new ratings, export.

May import everything but the scripts and what writes records.
"""
