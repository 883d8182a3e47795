"""Files in formats that are not read: what they are, and the command that converts them to CSV."""

import json
import os
import re
from pathlib import Path

from autorec_tf.system.errors import UserError
from autorec_tf.system.terminal import shell

FRAME = "import pandas; pandas.read_{}.to_csv(TARGET, index=False)"
DATA = "import {}, pandas; pandas.DataFrame({}).to_csv(TARGET, index=False)"
SPARSE = ("import pandas, scipy.io, scipy.sparse; m = scipy.sparse.coo_matrix({}); pandas."
          "DataFrame(dict(user=m.row, item=m.col, rating=m.data)).to_csv(TARGET, index=False)")
DATABASE = ("import pandas, sqlite3; c = sqlite3.connect(SOURCE); "
            "t, = c.execute(\"select name from sqlite_master where type = 'table'\").fetchone(); "
            'pandas.read_sql(f"select * from [{t}]", c).to_csv(TARGET, index=False)')
MATRIX = ('next(v.toarray() if hasattr(v, "toarray") else v '
          'for k, v in scipy.io.loadmat(SOURCE).items() if k[0] != "_")')
# Write True and False as 1 and 0: with the separator, the lines before the ratings, the column.
BOOLEANS = ("import pandas; t = pandas.read_csv(SOURCE, sep={0!r}, skiprows={1}, header=None, "
            "dtype=str, keep_default_na=False); t[{2}] = t[{2}].str.strip().str.lower().replace("
            '{{"true": "1", "false": "0"}}); t.to_csv(TARGET, index=False, header=False)')
TEXT = 'open(SOURCE, encoding="utf-8-sig")'
OBJECTS = r'json.loads("[" + re.sub(r"\}\s*\{", "},{", ' + TEXT + '.read()) + "]")'
JSON = rb"(?:\xef\xbb\xbf)?\s*"  # what precedes the first value: a byte-order mark, blanks
# The pattern of the extension or of the first bytes, the name, and the code or the command that
# converts the file, in which NAME is the pattern's group.
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb".{257}ustar", "a tar archive", "python -m tarfile -e SOURCE FOLDER"),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", "zstd -d SOURCE"),
    (rb"\x04\x22\x4d\x18", "an lz4 archive", "lz4 -d SOURCE"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x SOURCE"),
    (rb"Rar!", "a RAR archive", "unrar x SOURCE"),
    (rb"ARROW1|FEA1", "a Feather file", FRAME.format("feather(SOURCE)")),
    (rb"ORC", "an ORC file", FRAME.format("orc(SOURCE)")),
    (rb"\x93NUMPY", "a NumPy array", DATA.format("numpy", "numpy.load(SOURCE)")),
    (rb"\.npz", "a sparse SciPy matrix", SPARSE.format("scipy.sparse.load_npz(SOURCE)")),
    (rb"MATLAB 5\.0", "a MATLAB file", DATA.format("scipy.io", MATRIX)),
    (rb"(?i:%%matrixmarket +\w+ +array)", "a MatrixMarket array of all cells",
     SPARSE.format("scipy.io.mmread(SOURCE)")),
    (rb"\x89HDF", "an HDF5 file", FRAME.format("hdf(SOURCE)")),
    (rb"<stata_dta>", "a Stata file", FRAME.format("stata(SOURCE)")),
    (rb"\$FL2", "an SPSS file", FRAME.format("spss(SOURCE)")),
    (rb"\.xls[xm]?|\.ods|\xd0\xcf\x11\xe0", "an Excel file", FRAME.format("excel(SOURCE)")),
    (rb"\.pkl|\.pickle|\x80(?:[\2\3]c|[\4\5]\x95)", "a pickle", FRAME.format("pickle(SOURCE)")),
    (rb"SQLite format 3\0", "an SQLite database", DATABASE),
    (rb"\s*<(?i:!doctype html|html)", "a web page", ""),
    (JSON + rb'(?:\{\s*["}][^\n]*\}|\[[^\n]*\])\s*?\n\s*[{[]|' + JSON
     + rb'(?:\{\s*["}][^][{}]*\}|\[[^][{}]*\])\s*\Z', "a file of JSON lines",
     FRAME.format('json(SOURCE, lines=True, dtype=False, encoding="utf-8-sig")')),
    (JSON + rb'\{\s*".*?\}\s*\{', "a file of JSON objects", DATA.format("json, re", OBJECTS)),
    (JSON + rb'\{\s*"([^"\\]+)"\s*:\s*\[\s*[{[]', "a JSON file",
     DATA.format("json", f"json.load({TEXT})[NAME]")),
    (JSON + rb'\{\s*"columns"\s*:\s*\[[^]]*\]\s*,\s*"(?:index|data)"', "a JSON file",
     FRAME.format('json(SOURCE, orient="split", dtype=False, encoding="utf-8-sig")')),
    (JSON + rb'(?:\{\s*["}]|\[\s*[][{])', "a JSON file",
     FRAME.format('json(SOURCE, dtype=False, encoding="utf-8-sig")')),
)


def command(code: str, path: Path, name: str = "") -> str:
    """Return the command for `code`, of Python or of the shell, with text in place of SOURCE,
    FOLDER, TARGET and NAME. TARGET is a CSV file beside the source, new if possible."""
    targets = [path.with_name(f"{path.stem}{end}.csv") for end in ("", "-ratings", "-converted")]
    target = next((each for each in targets if each != path and not each.exists()), targets[-1])
    words = dict[str, str | Path](SOURCE=path, FOLDER=path.parent, TARGET=target, NAME=name)
    if "import" not in code:
        return shell(words.get(word, word) for word in code.split())
    quoted = {word: json.dumps(str(text), ensure_ascii=False) for word, text in words.items()}
    return shell(["python", "-c", re.sub("|".join(words), lambda word: quoted[word[0]], code)])


def refuse_foreign(path: Path, packed: bytes, start: bytes) -> None:
    """Raise UserError, with the command that converts the file, if it is in a format that is not
    read. `packed` are its first bytes, `start` the same after decompression."""
    extension = os.fsencode(path.suffix.lower())
    for pattern, what, code in KINDS:
        match = re.fullmatch(pattern, extension) or re.match(pattern, start, re.DOTALL)
        if not match:
            continue
        if packed[:4] != start[:4] and "tarfile" not in code:
            raise UserError(f"{path}: the archive contains {what}. Unpack it, and name that file.")
        name = match[1].decode() if match.lastindex else ""
        remedy = f"Convert or unpack it with {command(code, path, name)}" * bool(code)
        if "pickle" in code:
            remedy = f"A pickle can run any code: open it only if it is yours. {remedy}"
        raise UserError(f"{path}: {what} is not supported. {remedy or 'Download the file again.'}")


def refuse_folder_or_url(name: str, path: Path) -> None:
    """Raise UserError if `name` is the address of a file, or `path` a folder that Spark wrote."""
    if re.match(r"[a-z][a-z0-9+]+://", name, re.IGNORECASE):
        raise UserError(f"{name} is an address, which is never opened. Download the file, as with "
                        f"{shell(['curl', '-LO', name])}, and name the file.")
    if parts := sorted(path.glob("part-*")):
        reader = "parquet(x)" if ".parquet" in parts[0].name else "csv(x, dtype=str)"
        code = (f"import glob, pandas; pandas.concat(pandas.read_{reader} for x in sorted(glob.glob"
                '(SOURCE + "/part-*"))).to_csv(TARGET, index=False)')
        raise UserError(f"{path}: a folder that Spark wrote, with {len(parts)} files. Convert it "
                        f"with {command(code, path)}")
