"""Files in formats that are not read: what they are, and the command that converts them to CSV."""

import glob
import json
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from autorec_tf.system.errors import UserError
from autorec_tf.system.terminal import shell

FRAME = "import pandas; pandas.read_{}(SOURCE).to_csv(TARGET, index=False)"
ARRAY = ("import numpy, pandas; pandas.DataFrame(numpy.load(SOURCE)).to_csv(TARGET, index=False)")
SPARSE = ("import pandas, scipy.sparse; m = scipy.sparse.load_npz(SOURCE).tocoo(); "
          'pandas.DataFrame({"user": m.row, "item": m.col, "rating": m.data})'
          ".to_csv(TARGET, index=False)")
MATLAB = ("import pandas, scipy.io; m = scipy.io.loadmat(SOURCE); "
          'v = next(m[k] for k in m if k[0] != "_"); pandas.DataFrame('
          'v.toarray() if hasattr(v, "toarray") else v).to_csv(TARGET, index=False)')
PICKLE = "Pickles can run any code, so open it only if you wrote it yourself: "
# The first bytes, or an extension; the name; the code or the command that converts the file.
KINDS: tuple[tuple[bytes | str, str, str], ...] = (
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "zstd -d SOURCE"),
    (b"\x04\x22\x4d\x18", "an lz4 archive", "lz4 -d SOURCE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x SOURCE"),
    (b"Rar!", "a RAR archive", "unrar x SOURCE"),
    (b"ARROW1", "a Feather file", FRAME.format("feather")),
    (b"FEA1", "a Feather file", FRAME.format("feather")),
    (b"ORC", "an ORC file", FRAME.format("orc")),
    (b"\x93NUMPY", "a NumPy array", ARRAY),
    (b"MATLAB 5.0", "a MATLAB file", MATLAB),
    (b"\x89HDF", "an HDF5 file", FRAME.format("hdf")),
    (b"<stata_dta>", "a Stata file", FRAME.format("stata")),
    (b"$FL2", "an SPSS file", FRAME.format("spss")),
    (b"\xd0\xcf\x11\xe0", "an Excel file", FRAME.format("excel")),
    *((end, "an Excel file", FRAME.format("excel")) for end in (".xls", ".xlsx", ".xlsm", ".ods")),
    *((end, "a pickle", FRAME.format("pickle")) for end in (".pkl", ".pickle")),
    *((bytes([0x80, version, 0x95 if version > 3 else 0x63]), "a pickle", FRAME.format("pickle"))
      for version in (2, 3, 4, 5)),
)
WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)
JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\[\]])')


def new_path(path: Path) -> Path:
    """Return the path of a CSV file beside `path`, which does not exist yet if possible."""
    names = [path.with_suffix(".csv"), path.with_name(f"{path.stem}-ratings.csv"),
             path.with_name(f"{path.stem}-converted.csv")]
    return next((name for name in names if name != path and not name.exists()), names[-1])


def python(code: str, path: Path) -> str:
    """Return the command that runs `code` with the paths in place of SOURCE and TARGET."""
    names = {"SOURCE": path, "TARGET": new_path(path)}
    quoted = {word: json.dumps(str(name), ensure_ascii=False) for word, name in names.items()}
    return shell(["python", "-c", re.sub("SOURCE|TARGET", lambda word: quoted[word[0]], code)])


def booleans_to_numbers(path: Path, separator: str, skipped: int, has_header: bool,
                        position: int) -> str:
    """Return the command that writes True and False in a column of a text file as 1 and 0."""
    header, skipped = "" if has_header else ", header=None", skipped - has_header
    return python(
        f"import pandas; t = pandas.read_csv(SOURCE, sep={separator!r}, skiprows={skipped}{header},"
        f" dtype=str, keep_default_na=False); t.isetitem({position}, t.iloc[:, {position}]"
        '.str.strip().str.lower().map({"true": 1, "false": 0})); t.to_csv(TARGET, index=False'
        f"{', header=False' if header else ''})", path)


def refuse_foreign(path: Path, packed: bytes, start: bytes) -> None:
    """Raise UserError, with the command that converts the file, if it is in a format that is not
    read. `packed` are its first bytes, `start` the same after decompression."""
    if start[257:262] == b"ustar":
        raise UserError(f"{path}: a tar archive is not supported. Unpack it with "
                        f"{shell(['python', '-m', 'tarfile', '-e', path, path.parent])} and name a "
                        "file.")
    for mark, what, code in KINDS:
        if start.startswith(mark) if isinstance(mark, bytes) else path.suffix.lower() == mark:
            refuse(path, packed, start, what, code)
    if start.startswith(b"SQLite format 3\0"):
        refuse(path, packed, start, "an SQLite database", (
            "import pandas, sqlite3; pandas.read_sql("
            f"{f'select * from {table_of(path)}'!r}, sqlite3.connect(SOURCE))"
            ".to_csv(TARGET, index=False)"))
    if packed.startswith(b"PK") and path.suffix.lower() == ".npz":
        refuse(path, start, start, "a sparse SciPy matrix", SPARSE)
    if re.match(rb"%%matrixmarket +\w+ +array", start, re.IGNORECASE):
        refuse(path, packed, start, "a MatrixMarket array of all cells", (
            SPARSE.replace("scipy.sparse;", "scipy.io, scipy.sparse;").replace(
                "scipy.sparse.load_npz(SOURCE).tocoo()",
                "scipy.sparse.coo_matrix(scipy.io.mmread(SOURCE))")))
    if WEB_PAGE.match(start):
        raise UserError(f"{path}: a web page, not ratings. Download the file again.")
    if code := json_code(start):
        refuse(path, packed, start, "a JSON file", code)


def refuse(path: Path, packed: bytes, start: bytes, what: str, code: str) -> None:
    if packed[:4] != start[:4]:
        raise UserError(f"{path}: the archive contains {what}. Unpack it, and name that file.")
    command = python(code, path) if "import" in code else shell(
        str(path) if word == "SOURCE" else word for word in code.split())
    raise UserError(f"{path}: {what} is not supported. {PICKLE if 'pickle' in code else ''}Convert "
                    f"it with {command}")


def table_of(path: Path) -> str:
    """Return the name of the first table in a database, quoted, or TABLE if it cannot be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro",
                                                          uri=True)) as database:
        rows = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return '"{}"'.format(rows[0][0].replace('"', '""'))
    return "TABLE"


def json_code(start: bytes) -> str:
    """Return the code that converts JSON which begins with `start`: a line per rating, objects on
    several lines, or one array or object; "" if it is not JSON."""
    text = start.decode("utf-8-sig", "ignore").lstrip()
    mark = ', encoding="utf-8-sig"' if start.startswith(b"\xef\xbb\xbf") else ""
    first, _, rest = text.partition("\n")
    value: Any = None
    with suppress(ValueError):
        value = json.loads(first)
    is_row = isinstance(value, dict | list) and not any(
        isinstance(x, dict | list) for x in (value.values() if isinstance(value, dict) else value))
    if is_row and (isinstance(value, dict) or rest.lstrip()[:1] in ("[", "")):
        return FRAME.format("json").replace("SOURCE", f"SOURCE, lines=True, dtype=False{mark}")
    if not JSON.match(text.encode()):
        return ""
    if not value and text[0] == "{":
        with suppress(ValueError):
            value, end = json.JSONDecoder().raw_decode(text)
            if text[end:].lstrip()[:1] == "{":
                return ('import io, pandas, re; text = re.sub(r"\\}\\s*\\{", "},{", open(SOURCE, '
                        'encoding="utf-8-sig").read()); pandas.read_json(io.StringIO(f"[{text}]"), '
                        "dtype=False).to_csv(TARGET, index=False)")
    keys = re.match(r'\{\s*("(?:[^"\\]|\\.)*")\s*:\s*\[\s*[{\[]', text)
    if keys:
        return (f"import json, pandas; pandas.DataFrame(json.load(open(SOURCE, "
                f'encoding="utf-8-sig"))[{keys[1]}]).to_csv(TARGET, index=False)')
    split = set(value) == {"columns", "index", "data"} if isinstance(value, dict) else False
    orient = ', orient="split"' if split else ""
    return FRAME.format("json").replace("SOURCE", f"SOURCE{orient}, dtype=False{mark}")


def refuse_folder_or_url(name: str, path: Path) -> None:
    """Raise UserError if `name` is the address of a file, or `path` a folder that Spark wrote."""
    if re.match(r"[a-z][a-z0-9+]+://", name, re.IGNORECASE):
        raise UserError(f"{name} is an address, which is never opened. Download the file, as with "
                        f"{shell(['curl', '-LO', name])}, and name the file.")
    parts = sorted(glob.glob(f"{glob.escape(str(path))}/part-*"))
    if not parts:
        return
    code = "import pandas; pandas.read_parquet(SOURCE).to_csv(TARGET, index=False)"
    if not any(".parquet" in Path(part).name for part in parts):
        code = ("import glob, pandas; pandas.concat(pandas.read_csv(x, dtype=str) for x in sorted("
                'glob.glob(SOURCE + "/part-*"))).to_csv(TARGET, index=False)')
    raise UserError(f"{path}: a folder that Spark wrote, with {len(parts)} files. Convert it with "
                    f"{python(code, path)}")
