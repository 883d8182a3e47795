"""The titles of a dataset's items, from the file that is published with the ratings."""

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from autorec_tf.data.formats import find_encoding

# Of MovieLens-1M and -10M, -100K, the later ones, and Netflix in two spellings.
FILES = ("movies.dat", "u.item", "movies.csv", "movie_titles.csv", "movie_titles.txt")
PUBLISHED = ("ml-", "netflix")  # prefixes of the names of datasets with such files


def read_titles(dataset: str, folder: str | Path) -> dict[str, str]:
    """Return a dictionary from item id to title, both text, from the first of `FILES` in `folder`.

    It is empty for synthetic and other ratings, whose ids differ from the file's, and without a
    file. Lines that are not in the published format are left out. Callers show the id of an item
    without a title.
    """
    if not dataset.startswith(PUBLISHED):
        return {}
    for name in FILES:
        with suppress(OSError, csv.Error):  # a quote that is never closed
            content = (Path(folder) / name).read_bytes()
            text = content.decode(find_encoding(content), "replace")
            return {item: title for item, title in parse(name, text) if title}
    return {}


def parse(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (id, title) of each line of the file called `name`."""
    if name == "movies.csv":  # movieId,title,genres
        for row in csv.DictReader(io.StringIO(text)):
            yield row.get("movieId") or "", row.get("title") or ""
        return
    separator = {"movies.dat": "::", "u.item": "|"}.get(name, ",")
    for line in text.splitlines():
        item, title, rest = [*line.split(separator, 2), "", ""][:3]
        if separator == ",":  # id, year or NULL, and a title that may contain commas
            title = f"{rest} ({title})" if title.isdigit() else rest
        yield item, title
