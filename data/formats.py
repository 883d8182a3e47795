"""Which format is this file?"""

from pathlib import Path

from data.blocks import RatingsFile
from data.delimited import DelimitedFile
from data.layouts import BYTE_ORDER_MARK, SNIFFED_BYTES, sniff
from data.netflix import MOVIE_LINE, NetflixFile
from data.parquet import ParquetFile
from system.errors import UserError


def open_file(path: Path, columns: str | None = None) -> RatingsFile:
    """Return the file at `path`, of whatever format its first bytes show. Raise UserError if it
    cannot be read, or its format is none of those known here."""
    try:
        with open(path, "rb") as file:
            start = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    if not start:
        raise UserError(f"{path} is empty: name a file of ratings")
    if start.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return ParquetFile(path, columns)
    if MOVIE_LINE.match(start.removeprefix(BYTE_ORDER_MARK)):
        return NetflixFile(path)
    return DelimitedFile(path, sniff(path, start, columns))
