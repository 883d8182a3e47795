"""The titles of a dataset's items, from the file that its publisher put beside the ratings."""

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# MovieLens-1M and -10M, -100K, the later ones, and Netflix' two spellings.
FILES = ("movies.dat", "u.item", "movies.csv", "movie_titles.csv", "movie_titles.txt")
PUBLISHED = ("ml-", "netflix")  # what the names of datasets with such files begin with


def read_titles(dataset: str, folder: str | Path) -> dict[str, str]:
    """Return item id -> title, both text, from the first of `FILES` that lies in `folder`.

    Empty for made-up or other ratings, whose ids are not those of the file, and where there is no
    file: the id stands for the title then. A line that is not in the published format is left
    out, for the same reason.
    """
    if not dataset.startswith(PUBLISHED):
        return {}
    for name in FILES:
        try:
            content = (Path(folder) / name).read_bytes()
        except OSError:
            continue
        with suppress(csv.Error):  # a quote that is never closed
            return {item: title for item, title in parse(name, decode(content)) if title}
    return {}


def decode(content: bytes) -> str:
    """Return the text of a file in UTF-8, as the later ones are, or else in Latin-1."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # an accent in Latin-1 is hardly ever a character in UTF-8
        return content.decode("latin-1")


def parse(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (id, title) of each line of the file called `name`."""
    if name == "movies.csv":  # movieId,title,genres
        for row in csv.DictReader(io.StringIO(text)):
            yield row.get("movieId") or "", row.get("title") or ""
        return
    separator = {"movies.dat": "::", "u.item": "|"}.get(name, ",")
    for line in text.splitlines():
        item, _, rest = line.partition(separator)
        if separator != ",":  # id, title, and more
            yield item, rest.partition(separator)[0]
        else:  # id, year or NULL, and a title with commas of its own
            year, _, title = rest.partition(",")
            yield item, f"{title} ({year})" if year.isdigit() else title
