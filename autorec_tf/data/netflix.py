"""The Netflix Prize's files: a line `MovieID:`, then its lines `CustomerID,Rating,Date`.

The publisher has withdrawn the data. Existing copies have `combined_data_1.txt` to
`combined_data_4.txt`, or one file per movie, `training_set/mv_0000001.txt` and so on.
"""

import re
from pathlib import Path
from typing import Any

from autorec_tf.data.delimited import Block, RatingsFile, check_text
from autorec_tf.data.ids import WHOLE_ID
from autorec_tf.data.layouts import Layout

MOVIE_LINE = re.compile(r"(\d{1,18}):(\r?\n|$)", re.ASCII)
LAYOUT = Layout(
    ",", 4, (0, 3, 1, 2), quotechar="", rating=re.compile("[1-5]"),
    time=re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    published="Expected MovieID:, then lines CustomerID,Rating,YYYY-MM-DD, ratings from 1 to 5",
)


class NetflixFile(RatingsFile):
    """One of the files, or several that are read as one file."""

    def __init__(self, *paths: Path) -> None:
        super().__init__(LAYOUT, *paths)

    def __str__(self) -> str:
        return f"{self.path.name}: Netflix format, MovieID: before its CustomerID,Rating,Date lines"

    def parse(self, text: str, state: dict[str, Any]) -> Block:
        """Return the ratings in some lines, with the movie added to each; `state` keeps it."""
        text = check_text(text)
        *before, last = (text if text.endswith("\n") else f"{text}\n").split(":\n")
        movie, parts = state.get("movie", ""), []
        for part in before:
            lines, end, following = part.rpartition("\n")
            parts.append(f"{lines}{end}".replace("\n", f",{movie}\n"))
            if not WHOLE_ID.fullmatch(movie := following):
                raise ValueError(f"the movie id {movie[:20]!r} is not a whole number")
        lines = "".join(parts) + last.replace("\n", f",{movie}\n")
        state["movie"] = movie
        return super().parse(lines, state) if lines else []
