"""Synthetic rating files in the variants that users have, intact and damaged.

An intact file must give exactly the ratings that were written. A file that is damaged at one
position must be refused with one line, or give all ratings except those of the damaged lines.
"""

import bz2
import csv
import gzip
import io
import lzma
import random
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Triples = list[tuple[str, str, float]]
Rows = list[tuple[str, str, str]]
LINES = 20
TOUCHED = 3  # most ratings that one damage may change: it may join two lines
CELLS = 13  # the same in a table, where it may change the name of a row or column


@dataclass
class Made:
    """A file: its content, its ratings, the settings to read it with, the content of a test file,
    if any, and the pairs of the latest ratings if it is split by time."""

    content: bytes
    triples: Triples
    settings: dict[str, Any] = field(default_factory=dict)
    test: bytes = b""
    latest: set[tuple[str, str]] | None = None
    advice: bool = False  # whether the file is refused, and the command in the message converts it


def some(rng: random.Random, levels: str = "0.5 1 1.5 2 2.5 3 3.5 4 4.5 5", name: str = "") -> Rows:
    """Return distinct pairs and their ratings as text, with at least two different ratings."""
    pairs = rng.sample([(user, item) for user in range(1, 12) for item in range(1, 12)], LINES)
    values = levels.split()
    first = [(f"{name}{user}", str(item), rng.choice(values)) for user, item in pairs[2:]]
    return [(f"{name}{pairs[n][0]}", str(pairs[n][1]), values[-n]) for n in (0, 1)] + first


def as_triples(rows: Rows) -> Triples:
    return [(user, item, float(rating)) for user, item, rating in rows]


def joined(rows: Any, separator: str = ",", header: str = "user,item,rating") -> str:
    lines = [header.replace(",", separator)] if header else []
    return "\n".join([*lines, *(separator.join(row) for row in rows)]) + "\n"


def blanks(rng: random.Random) -> Made:
    rows = some(rng)
    text = "".join(re.sub(",", lambda _: rng.choice([" ", "  ", "\t"]), ",".join(row)) + "\n"
                   for row in rows)
    return Made(text.encode(), as_triples(rows))


def decimal_commas(rng: random.Random) -> Made:
    rows = some(rng)
    text = joined([(*row[:2], row[2].replace(".", ",")) for row in rows], ";")
    return Made(text.encode(), as_triples(rows))


def blanks_after_separators(rng: random.Random) -> Made:
    rows = some(rng, name="u")
    return Made(joined(rows, ", ").encode(), as_triples(rows))


def comments(rng: random.Random) -> Made:
    rows, lines = some(rng), ["# by hand, for all"]
    for row in rows:
        lines += rng.choice([[], [], [""], ["  "], ["# more: 1,2,3"], [" # \"quoted"]])
        lines.append(",".join(row) + rng.choice(["", "", " # 1,2,3", "  #5"]))
    return Made("\n".join(lines).encode() + b"\n", as_triples(rows))


def excel(rng: random.Random) -> Made:
    rows = some(rng)
    return Made(b"sep=;\r\n" + joined(rows, ";").replace("\n", "\r\n").encode(), as_triples(rows))


def quoted_line_ends(rng: random.Random) -> Made:
    rows, out = some(rng, name="u"), io.StringIO()
    writer = csv.writer(out, lineterminator=rng.choice(["\n", "\r\n"]))
    writer.writerow(["user", "item", "note", "rating"])
    for user, item, rating in rows:
        note = rng.choice(["good", "two\nlines", "a, \"b\"", "\n", "", "5\n1,2,x,3\n"])
        writer.writerow([user, item, note, rating])
    return Made(out.getvalue().encode(), as_triples(rows))


def lone_quotes(rng: random.Random) -> Made:
    rows = some(rng)
    texts = ['24"', '"so" they said', '"', "plain", 'an "x']
    table = [(user, item, rng.choice(texts), rating) for user, item, rating in rows]
    table[5] = (*table[5][:2], '24"', table[5][3])
    return Made(joined(table, "\t", "user,item,note,rating").encode(), as_triples(rows))


def packed(pack: Callable[[bytes], bytes]) -> Callable[[random.Random], Made]:
    def make(rng: random.Random) -> Made:
        rows = some(rng)
        return Made(pack(joined(rows).encode()), as_triples(rows))

    return make


def zip_file(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", content)
    return out.getvalue()


def encoded(encoding: str) -> Callable[[random.Random], Made]:
    def make(rng: random.Random) -> Made:
        rows = some(rng, name="é’" if encoding == "cp1252" else "é")
        return Made(joined(rows).encode(encoding), as_triples(rows))

    return make


def ends(end: str) -> Callable[[random.Random], Made]:
    def make(rng: random.Random) -> Made:
        rows = some(rng)
        return Made(joined(rows).replace("\n", end).encode(), as_triples(rows))

    return make


def no_rating(rng: random.Random) -> Made:
    rows = some(rng, "1 2 3 4 5 -1 99 NaN 4.0 5.0")
    kept = [row for row in rows if row[2] not in ("-1", "99", "NaN")]
    return Made(joined(rows).encode(), as_triples(kept), {"no_rating": ("-1", "99", "NaN")})


def duplicates(rng: random.Random) -> Made:
    rows, by = some(rng), rng.choice(["first", "last", "mean"])
    rows += [(*row[:2], rng.choice("12345")) for row in rng.choices(rows, k=TOUCHED - 1)]
    rng.shuffle(rows)
    rows = [row for n, row in enumerate(rows) if row not in rows[:n]]
    pairs: dict[tuple[str, str], list[float]] = {}
    for user, item, rating in as_triples(rows):
        pairs.setdefault((user, item), []).append(rating)
    pick = {"first": lambda x: x[0], "last": lambda x: x[-1], "mean": lambda x: sum(x) / len(x)}[by]
    order = [row[:2] for row in (rows[::-1] if by == "last" else rows)]
    order = list(dict.fromkeys(order))[:: -1 if by == "last" else 1]
    return Made(joined(rows).encode(), [(*pair, pick(pairs[pair])) for pair in order],
                {"duplicates": by})


def numbers(rng: random.Random) -> Made:
    rows = some(rng, "1e-05 3. .5 0.8193147231829 2.5E0 +4 1e+1 123456.7890625 7 0.1")
    return Made(joined(rows).encode(), as_triples(rows))


def decimal_ids(rng: random.Random) -> Made:
    rows = some(rng)
    test = [(f"{user}.0", f"{item}.0", rating) for user, item, rating in rows[LINES // 2 :]]
    return Made(joined(rows[: LINES // 2]).encode(), as_triples(rows), test=joined(test).encode())


def dates(rng: random.Random) -> Made:
    rows = some(rng)
    days = rng.sample(range(1, 28), LINES)
    times = [f"2005-0{1 + day % 9}-{day:02}" + rng.choice(["", " 10:00:00", "T10:00:00Z"])
             for day in days]
    order = sorted(range(LINES), key=lambda n: times[n][:10])
    text = joined([(*row, time) for row, time in zip(rows, times, strict=True)],
                  header="user,item,rating,time")
    return Made(text.encode(), as_triples(rows), {"split": "time", "train_ratio": 0.8},
                latest={rows[n][:2] for n in order[round(LINES * 0.8) :]})


def table(rng: random.Random) -> Made:
    """A table of users x items, some of whose cells mean that there was no rating."""
    users, items = rng.sample(range(1, 99), 12), rng.sample(range(1, 99), 9)
    blank, end = rng.choice(["0", "", "NaN", "-1", "99"]), rng.choice(["", ".0"])
    cells = {(user, item): rng.randint(1, 5) for user in users for item in items
             if rng.random() < 0.45}
    lines = [",".join([rng.choice(["user", "", "userId"]), *map(str, items)])]
    shown = {pair: f"{value}{end}" for pair, value in cells.items()}
    lines += [",".join([str(user), *(shown.get((user, item), blank) for item in items)])
              for user in users]
    triples = [(str(user), str(item), float(cells[user, item])) for item in items for user in users
               if (user, item) in cells]
    return Made("\n".join(lines).encode() + b"\n", triples, advice=True)


def header_comments(rng: random.Random) -> Made:
    rows, mark = some(rng, "1 2 3 4 5"), rng.choice("#%")
    table = [(row[1], row[0], row[2]) for row in rows]
    text = joined(table, "\t", f"{mark}{rng.choice(['', ' '])}item,user,rating")
    return Made(f"{mark} made by hand\n{text}{mark} the end\n".encode(), as_triples(rows))


def matrix_market(rng: random.Random) -> Made:
    rows = some(rng)
    head = f"%%MatrixMarket matrix coordinate real general\n%\n11 11 {len(rows)}\n"
    return Made((head + joined(rows, " ", "")).encode(), as_triples(rows))


def exponent_ids(rng: random.Random) -> Made:
    rows = some(rng)
    format = rng.choice(["{:.18e}", "{:.1f}", "{:.7e}"])
    lines = [(format.format(int(user)), format.format(int(item)), rating)
             for user, item, rating in rows]
    half = LINES // 2
    return Made(joined(lines[:half], ",", "").encode(), as_triples(rows),
                test=joined(rows[half:], ",", "").encode())


def other_dates(rng: random.Random) -> Made:
    """Dates day first or month first, which the last day of a year decides, or in words."""
    rows, format = some(rng), rng.choice(["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y %H:%M", "%b %d, %Y",
                                          "%m/%d/%Y %I:%M %p", "%d-%b-%Y"])
    days = [datetime(2015, 1, 1) + timedelta(days=each, hours=each % 24)
            for each in [*rng.sample(range(363), LINES - 1), 364]]
    rng.shuffle(days)
    order = sorted(range(LINES), key=lambda n: days[n])
    times = [f'"{day.strftime(format)}"' for day in days]
    text = joined([(*row, time) for row, time in zip(rows, times, strict=True)],
                  header="user,item,rating,time")
    return Made(text.encode(), as_triples(rows), {"split": "time", "train_ratio": 0.8},
                latest={rows[n][:2] for n in order[round(LINES * 0.8) :]})


KINDS: dict[str, Callable[[random.Random], Made]] = {
    "separated by blanks": blanks, "decimal commas": decimal_commas,
    "blanks after separators": blanks_after_separators, "empty lines and comments": comments,
    "Excel's sep=": excel, "quotes with line ends": quoted_line_ends,
    "lone quotes between tabs": lone_quotes, "gzip": packed(gzip.compress),
    "bzip2": packed(bz2.compress), "xz": packed(lzma.compress), "zip": packed(zip_file),
    "UTF-16": encoded("utf-16"), "latin-1": encoded("latin-1"), "--no_rating": no_rating,
    "--duplicates": duplicates, "exponents and decimals": numbers,
    "a test file with ids 1.0": decimal_ids, "ISO dates": dates, "table of users x items": table,
    "a header behind #": header_comments, "MatrixMarket": matrix_market,
    "exponents in ids": exponent_ids, "other dates": other_dates,
    "lines that end in CR": ends("\r"), "lines that end in CR CR LF": ends("\r\r\n"),
    "UTF-16 without a mark": encoded("utf-16-le"), "cp1252": encoded("cp1252"),
}


def damaged(content: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """Return the content with one position changed, and whether the rest was cut off."""
    at = rng.randrange(len(content))
    kind = rng.choice(["cut", "changed", "inserted", "removed"])
    if kind == "cut":
        return content[:at], True
    byte = rng.choice([rng.randbytes(1), rng.choice([b"\n", b'"', b",", b";", b" ", b"\0", b"9"])])
    middle = {"changed": byte, "inserted": byte + content[at : at + 1], "removed": b""}[kind]
    return content[:at] + middle + content[at + 1 :], False


def agrees(found: Triples, written: Triples, cut: bool, touched: int = TOUCHED) -> bool:
    """Return whether the ratings read equal those written, except on the damaged lines."""

    def number(one: str) -> str:
        return f"{float(one):.0f}" if re.fullmatch(r"\d+\.\d*(e[+-]\d\d)?", one) else one

    def plain(triples: Triples) -> Counter:
        return Counter((number(user), number(item), rating) for user, item, rating in triples)

    lost, extra = plain(written) - plain(found), plain(found) - plain(written)
    return extra.total() <= touched and (cut or lost.total() <= touched)
