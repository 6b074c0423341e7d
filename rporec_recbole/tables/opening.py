"""A table's file as bytes: unpacked where it is packed, taken out of its archive where it lies in one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from rporec_recbole.errors import DatasetError, did_you_mean, first_line, translating

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Place:
    """Where a table lies.

    Attributes:
        path: a file or a folder.
        member: its name inside `path`, where that is an archive.
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """Of the file itself, without the ending that says how it is packed."""
        name = Path(self.member or self.path).name
        return next((name.removesuffix(end) for end in _PACKED if name.lower().endswith(end)), name)

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def open(self) -> BinaryIO:
        """What it holds, unpacked, from its start.

        Raises:
            DatasetError: it cannot be read.
        """
        with readable(self):
            return _unpacked(_opened(self))


def readable(place: Place) -> AbstractContextManager[None]:
    """One message for whatever keeps a file from being read and unpacked."""
    return translating(
        lambda error: DatasetError(
            f"Cannot read {place}: {first_line(error)}. Check that the file is whole and that you may read it."
        ),
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        tarfile.TarError,
        NotImplementedError,  # a zip with a method of packing that Python does not have
        RuntimeError,  # a zip with a password
    )


def find(text: str | Path) -> Place:
    """The place that a user named: a file, a folder, or a file in an archive, as `shop.zip/purchases.csv`.

    An archive with one file means that file.

    Raises:
        DatasetError: nothing is there, or an archive holds several files and none is named.
    """
    path = Path(text)
    for outer in [path, *path.parents]:
        if is_archive(outer) and outer.is_file():
            return _in_archive(outer, path.relative_to(outer).as_posix())
    if not path.exists():
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DatasetError(f"There is no file {path}.{did_you_mean(path.name, beside)} Check the path.")
    return Place(path)


def is_archive(path: Path) -> bool:
    """Whether a name is that of an archive of files."""
    return path.name.lower().endswith(_ARCHIVES)


def members(archive: Path) -> list[str]:
    """Names of the files in an archive, without what systems add for themselves."""
    with readable(Place(archive)):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                names = [one.filename for one in opened.infolist() if not one.is_dir()]
        else:
            with tarfile.open(archive) as packed:
                names = [one.name for one in packed.getmembers() if one.isfile()]
    return [name for name in names if "__MACOSX" not in name and not Path(name).name.startswith(".")]


def _in_archive(archive: Path, wanted: str) -> Place:
    names = members(archive)
    found = names if wanted == "." else [name for name in names if name == wanted or name.endswith(f"/{wanted}")]
    if len(found) == 1:
        return Place(archive, found[0])
    shown = ", ".join(sorted(names)[:12]) or "nothing"
    if wanted == ".":
        raise DatasetError(
            f"{archive} holds {shown}. Name the one to read, as {archive}/{(sorted(names) or ['FILE'])[0]}."
        )
    raise DatasetError(f"{archive} has no single file `{wanted}`.{did_you_mean(wanted, names)} It holds {shown}.")


def _opened(place: Place) -> BinaryIO:
    if not place.member:
        return place.path.open("rb")
    if zipfile.is_zipfile(place.path):
        return cast(BinaryIO, zipfile.ZipFile(place.path).open(place.member))
    inside = tarfile.open(place.path).extractfile(place.member)  # noqa: SIM115  read after this
    assert inside is not None  # `members` lists files alone
    return cast(BinaryIO, inside)


def _unpacked(raw: BinaryIO) -> BinaryIO:
    """By the first bytes: downloads are often called otherwise than they are packed."""
    file = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw), 1 << 20)
    head = file.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(file))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(file))
    if head.startswith(b"\xfd7zXZ"):
        return cast(BinaryIO, lzma.open(file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file), "zstd"))
    return cast(BinaryIO, file)
