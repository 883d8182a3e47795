"""Read NumPy archives (npz) whose content may be damaged, foreign or hostile.

    with Archive(path, "Export the run again.") as archive:
        arrays = archive.read({"scale": Rule("f8", (2,)), "W": Rule("f4", ("units", "users"))})

An npz is a zip file of arrays in the npy format. `np.savez` stores them one after the other without
compression. The directory and the headers of such a file are compared with its size before memory
is allocated, and zipfile compares the checksum (CRC-32) of each array that is read. Files of any
other form are refused: compressed ones may need a thousand times their size in memory.
"""

import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from autorec_tf.system.errors import UserError

CHUNK = 1 << 20  # bytes that are read at a time
MOST_MEMBERS = 10_000
END, LOCAL = b"PK\5\6", b"PK\3\4"  # signatures of zip records
END_BYTES, LOCAL_BYTES = 22, 30  # their sizes, without names, comments and extra fields
# The start of an npy file, version 1.0, and its header as NumPy writes it.
MAGIC = b"\x93NUMPY\1\0"
HEADER = re.compile(rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,9})', 'fortran_order': (True|False), "
                    rb"'shape': \(((?:\d{1,18}(?:, \d{1,18})+|\d{1,18},)?)\), \} *\n")


def is_finite(array: np.ndarray) -> str:
    """Return the problem with an array that contains NaN or infinity, or ""."""
    ends = (array.min(), array.max()) if array.dtype.kind == "f" and array.size else (0.0, 0.0)
    return "" if np.isfinite(ends).all() else "contains NaN or infinity"  # min() of NaN is NaN


class Rule(NamedTuple):
    """The requirements for an array: its type, its shape, and its values.

    Args:
        dtypes: the permitted types, such as "f4 f8"; "U" is text of any length.
        axes: the size of each axis: a number, or a name. Axes of the same name have the same size.
        check: a function that returns the problem with the values, "" if they are valid.
    """

    dtypes: str
    axes: tuple[str | int, ...] = ()
    check: Callable[[np.ndarray], str] = is_finite


class Header(NamedTuple):
    """The type of an array, its shape and order, and the length of its header in bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    length: int


class Archive:
    """An npz file that is open for reading.

    Args:
        path: the file, or its content in memory.
        remedy: the end of each message.

    Raises:
        UserError: on entry, and in each method: the file cannot be read, is not an archive of
            `np.savez`, or does not follow the rules. The message names the file and the array.
    """

    def __init__(self, path: str | os.PathLike | io.BytesIO, remedy: str) -> None:
        self.path, self.remedy = path, remedy
        self.sizes: dict[str, tuple[int, str]] = {}  # of each named axis, and the array with it
        self.file: IO[bytes]
        self.zip: zipfile.ZipFile
        self.members: dict[str, zipfile.ZipInfo] = {}

    def __enter__(self) -> "Archive":
        try:
            if isinstance(self.path, io.BytesIO):
                self.file = self.path
            elif stat.S_ISREG(os.stat(self.path).st_mode):
                self.file = open(self.path, "rb")
            else:
                raise UserError(f"{self.path} is not a file. {self.remedy}")
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror or error})") from error
        try:
            with self.reported_damage():
                self.open_directory()
        except BaseException:
            self.file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def refusal(self, problem: str, name: str = "") -> UserError:
        """Return the error for a `problem` with the array `name`, or with the file."""
        place = f"{self.path}: '{name}'" if name else f"{self.path}: the file"
        return UserError(f"{place} {problem}. {self.remedy}")

    @contextmanager
    def reported_damage(self, name: str = ""):  # type: ignore[no-untyped-def]
        """Convert the errors of zipfile, which have any type, into UserError."""
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror or error})") from error
        except (UserError, MemoryError):
            raise
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise self.refusal(f"is damaged, or not an export or a saved model: {reason}",
                               name) from error

    def open_directory(self) -> None:
        """Read the directory, and check that the members fill the file without gaps or overlaps."""
        size = self.file.seek(0, os.SEEK_END)
        self.file.seek(max(0, size - END_BYTES))
        end = self.file.read(END_BYTES)
        if len(end) < END_BYTES or end[:4] != END or end[-2:] != b"\0\0":
            raise ValueError("its end is missing, or other bytes follow it")
        if int.from_bytes(end[10:12], "little") > MOST_MEMBERS:
            raise ValueError("it has too many members")
        self.zip = zipfile.ZipFile(self.file)
        position = 0
        for info in sorted(self.zip.infolist(), key=lambda info: info.header_offset):
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in self.members:
                problem = "occurs twice" if name in self.members else "is not an array"
                raise self.refusal(problem, name)
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise self.refusal("is compressed or encrypted; np.savez stores arrays as they "
                                   "are", name)
            if info.header_offset != position or info.file_size != info.compress_size:
                raise self.refusal("is damaged: bytes are missing or were added before it", name)
            position = self.start_of(info) + info.file_size
            if position > size:
                raise self.refusal(f"claims {info.file_size:,} bytes, more than the file has", name)
            self.members[name] = info
        if position != self.zip.start_dir:
            raise ValueError("it contains other bytes than its arrays")

    def start_of(self, info: zipfile.ZipInfo) -> int:
        """Return the position of a member's content."""
        self.file.seek(info.header_offset)
        local = self.file.read(LOCAL_BYTES)
        if len(local) < LOCAL_BYTES or local[:4] != LOCAL:
            raise ValueError("the header of a member is damaged")
        lengths = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        return info.header_offset + LOCAL_BYTES + sum(lengths)

    def header(self, name: str) -> Header:
        """Return the header of an array, whose shape agrees with the size of the member."""
        info = self.members[name]
        with self.reported_damage(name), self.zip.open(info) as member:
            start = member.read(len(MAGIC) + 2)
            length = int.from_bytes(start[-2:], "little")
            match = HEADER.fullmatch(member.read(length))
            if start[:-2] != MAGIC or not match:
                raise self.refusal("is not an array of numbers or text", name)
            shape = tuple(int(size) for size in re.findall(rb"\d+", match[3]))
            header = Header(np.dtype(match[1].decode()), shape, match[2] == b"True",
                            len(start) + length)
            size = math.prod(shape) * header.dtype.itemsize
            if size != info.file_size - header.length or not header.dtype.itemsize:
                raise self.refusal(f"claims to be {header.dtype} {shape}, but does not have its "
                                   "size", name)
        return header

    def content(self, name: str, header: Header) -> np.ndarray:
        """Return an array. zipfile compares its checksum at the end."""
        order: Any = "F" if header.is_fortran else "C"
        array = np.empty(header.shape, header.dtype, order)
        target = (array.T if header.is_fortran else array).reshape(-1).view(np.uint8)
        with self.reported_damage(name), self.zip.open(self.members[name]) as member:
            member.read(header.length)
            for start in range(0, len(target), CHUNK):
                piece = np.frombuffer(member.read(CHUNK), np.uint8)
                target[start : start + CHUNK] = piece
            member.read(1)
        if array.dtype.kind == "U" and array.size:
            letters = target.view(array.dtype.str[0] + "u4")
            if letters.max(initial=0) > 0x10FFFF:
                raise self.refusal("contains what is not text", name)
        return array

    def headers(self, rules: Mapping[str, Rule]) -> dict[str, Header]:
        """Return the headers of the arrays that `rules` name, which follow these rules."""
        headers = {}
        for name, rule in rules.items():
            if name not in self.members:
                raise self.refusal("is missing", name)
            headers[name] = self.header(name)
            self.check_header(name, headers[name], rule)
        return headers

    def read(self, rules: Mapping[str, Rule]) -> dict[str, np.ndarray]:
        """Return the arrays that `rules` name. All headers are checked before any content is
        read."""
        headers, arrays = self.headers(rules), {}
        for name, rule in rules.items():
            arrays[name] = self.content(name, headers[name])
            if problem := rule.check(arrays[name]):
                raise self.refusal(problem, name)
        return arrays

    def check_header(self, name: str, header: Header, rule: Rule) -> None:
        """Raise UserError if the type or the shape of an array does not follow its rule. The first
        array with a named axis determines the size of this axis."""
        kinds = rule.dtypes.split()
        is_permitted = any(
            header.dtype.kind == "U" and header.dtype.isnative if kind == "U"
            else header.dtype == np.dtype(kind) for kind in kinds
        )
        if not is_permitted:
            wanted = " or ".join("text" if kind == "U" else np.dtype(kind).name for kind in kinds)
            raise self.refusal(f"is {described(header)}, but must be {wanted}", name)
        if len(header.shape) == len(rule.axes):
            for axis, size in zip(rule.axes, header.shape, strict=True):
                if isinstance(axis, str):
                    self.sizes.setdefault(axis, (size, name))
        wanted_shape = tuple(self.sizes.get(axis, (axis, ""))[0] if isinstance(axis, str) else axis
                             for axis in rule.axes)
        if header.shape != wanted_shape:
            origins = sorted({self.sizes[axis][1] for axis in rule.axes if axis in self.sizes}
                             - {name})
            beside = f" to fit {' and '.join(origins)}" if origins else ""
            raise self.refusal(f"is {described(header)}, but must have the shape "
                               f"({', '.join(map(str, wanted_shape))}){beside}", name)


def described(header: Header) -> str:
    dtype = header.dtype
    kind = "text" if dtype.kind == "U" else dtype.name if dtype.isnative else dtype.str
    return f"{kind} {header.shape}"


def is_json_object(array: np.ndarray) -> str:
    """Return the problem with a text that is not a JSON object, or ""."""
    try:
        return "" if isinstance(json.loads(str(array)), dict) else "is not a JSON object"
    except (ValueError, RecursionError) as error:
        return f"is not JSON ({error})"
