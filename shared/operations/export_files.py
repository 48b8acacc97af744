"""The files of an export: one a month, each ending with a digest that covers the one of the month before.

A file is whole or not there: it is written beside its place and then renamed. Its last line is a `Seal`.
"""

import fcntl
import gzip
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from zlib import error as ZlibError

import msgspec

from shared.archive.months import Month, named
from shared.errors import ExportFailed

_MONTHLY = re.compile(r"(.+)-([0-9]{4}-[0-9]{2})")
_SEAL = re.compile(rb'(\{"month":.*,"digest":")([0-9a-f]{64})"\}\n')

Bytes = IO[bytes] | gzip.GzipFile


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line of a file.

    It holds what came in from `since` to `until` (RFC 3339, both included) of `month` (`2026-11`) and was
    searched for by `search`: so many events and suppressed copies, a line each. `previous` is the digest of
    the month before, None if that was not exported. `digest` is the SHA-256 of all that stands before it in
    the file, the rest of this line included, in hexadecimal.
    """

    month: str
    since: str
    until: str
    search: dict[str, Any]
    events: int
    duplicates: int
    previous: str | None
    digest: str


class Files(msgspec.Struct, frozen=True):
    """The files of one export: `headrace-2026-11.jsonl.gz` has the stem `headrace`."""

    folder: Path
    stem: str
    suffix: str

    def of(self, month: Month) -> Path:
        """Return the path of a month's file."""
        return self.folder / f"{self.stem}-{label(month)}{self.suffix}"

    def months(self) -> list[Month]:
        """Return the months that have a file, in order. Raises: ExportFailed."""
        with _failing(self.folder):
            found = [parted(path) for path in self.folder.iterdir()] if self.folder.exists() else []
        return sorted(month for files, month in found if files == self and month is not None)


def parted(path: Path) -> tuple[Files, Month | None]:
    """Return which export a file belongs to, and its month; None if its name has none."""
    packed = ".gz" if path.suffix == ".gz" else ""
    inner = Path(path.name.removesuffix(packed))
    stem, suffix = inner.stem, inner.suffix + packed
    if match := _MONTHLY.fullmatch(stem):
        with suppress(ValueError):
            return Files(path.parent, match[1], suffix), named(match[2].replace("-", "_"))
    return Files(path.parent, stem, suffix), None


def label(month: Month) -> str:
    """Return a month as a file's name has it: `2026-11`."""
    return month.name.replace("_", "-")


class MonthFile:
    """A month's file while it is written. All methods raise ExportFailed."""

    def __init__(self, path: Path, file: Bytes) -> None:
        self._path = path
        self._file = file
        self._digest = sha256()

    def write(self, line: bytes) -> None:
        """Write a line, which ends with the only line break in it."""
        self._digest.update(line)
        with _failing(self._path):
            self._file.write(line)

    def seal(self, seal: Seal) -> Seal:
        """Write the last line. Returns it with its digest."""
        head, _, _ = msgspec.json.encode(msgspec.structs.replace(seal, digest="")).rpartition(b'"}')
        self._digest.update(head)
        digest = self._digest.hexdigest()
        with _failing(self._path):
            self._file.write(head + digest.encode() + b'"}\n')
        return msgspec.structs.replace(seal, digest=digest)


@contextmanager
def writing(path: Path) -> Iterator[MonthFile]:
    """Write a month's file; it takes its place when this ends, on the disk, unless this raises.

    Raises: ExportFailed if it is there already, or another process writes it.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    with _failing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        raw = os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb")
    try:
        with _failing(path), raw:
            fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                raise FileExistsError
            raw.truncate(0)  # what a killed process left
            os.fchmod(raw.fileno(), 0o600)  # the events name people
            with _compressed(path, raw) as file:
                yield MonthFile(path, file)
            raw.flush()
            os.fsync(raw.fileno())
            os.rename(unfinished, path)
    except BlockingIOError:
        raise ExportFailed(f"{path}: another process writes it") from None
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    with _failing(path):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _compressed(path: Path, raw: IO[bytes]) -> Iterator[Bytes]:
    if path.suffix != ".gz":
        yield raw
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as file:
        yield file


def read(path: Path, month: Month) -> Seal:
    """Read a month's file whole. Returns its last line.

    Raises: ExportFailed, with the first that is wrong, if it is not as it was written.
    """
    digest, counts, last_id, line, number = sha256(), {"event": 0, "duplicate": 0}, month.first_id, b"", 0
    with _failing(path), _opened(path) as file:
        for number, following in enumerate(file):
            if number:
                last_id = _check(path, month, number, line, last_id, counts)
                digest.update(line)
            line = following
    match = _SEAL.fullmatch(line)
    if match is None:
        raise ExportFailed(
            f"{path}: line {number + 1}, the last one, is no digest: the file is cut off or changed"
        )
    seal = _seal(path, line)
    if seal.month != label(month):
        raise ExportFailed(f"{path}: holds {seal.month}, and is named {label(month)}")
    for what, count in (("event", seal.events), ("duplicate", seal.duplicates)):
        if counts[what] != count:
            raise ExportFailed(f"{path}: has {counts[what]} {what}s, and {count} were written")
    digest.update(match[1])
    if digest.hexdigest() != seal.digest:
        raise ExportFailed(f"{path}: its digest is another one than that of its lines: it was changed")
    return seal


class _Id(msgspec.Struct):
    id: str


class _Line(msgspec.Struct):
    event: _Id | None = None
    duplicate: _Id | None = None


_line = msgspec.json.Decoder(_Line).decode


def _check(path: Path, month: Month, number: int, line: bytes, last_id: str, counts: dict[str, int]) -> str:
    """Check a line that is not the last, and count it. Returns its id."""
    try:
        found = _line(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _Line()
    each = found.event or found.duplicate
    if each is None:
        raise ExportFailed(f"{path}: line {number} is no event")
    if not last_id < each.id < month.next.first_id:
        raise ExportFailed(
            f"{path}: line {number} is not in its place: each id is larger than the one before"
        )
    counts["event" if found.event else "duplicate"] += 1
    return each.id


def _seal(path: Path, line: bytes) -> Seal:
    try:
        return msgspec.json.decode(line, type=Seal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ExportFailed(f"{path}: its last line was changed") from None


class Checked(msgspec.Struct, frozen=True):
    """A file, and its last line."""

    file: str
    seal: Seal


def verify(paths: list[Path]) -> Iterator[Checked]:
    """Yield each file once it is found to be as it was written, and to continue the month before.

    A path is that of a month's file, or an export's as it was given to `--to`: then all of its months are
    checked, and none may be missing before the first. Raises: ExportFailed with the first that is wrong.
    """
    exports: dict[Files, set[Month]] = {}
    whole: set[Files] = set()
    for path in paths:
        files, month = parted(path)
        if month is None:
            whole.add(files)
            months = files.months()
            if not months:
                raise ExportFailed(
                    f"{path}: no month of it is there, such as {files.stem}-2026-11{files.suffix}"
                )
        else:
            months = [month]
        exports.setdefault(files, set()).update(months)
    for files, wanted in exports.items():
        seals: dict[Month, Seal] = {}
        for month in sorted(wanted):
            seal = seals[month] = read(files.of(month), month)
            _check_previous(files, month, seal, seals, may_begin=files not in whole and month == min(wanted))
            yield Checked(str(files.of(month)), seal)


def _check_previous(
    files: Files, month: Month, seal: Seal, seals: dict[Month, Seal], *, may_begin: bool
) -> None:
    path, before = files.of(month), Month(month.number - 1)
    if before not in seals and files.of(before).exists():
        seals[before] = read(files.of(before), before)
    digest = seals[before].digest if before in seals else None
    if digest is None and seal.previous is not None and not may_begin:
        raise ExportFailed(f"{path}: the month before, {files.of(before).name}, is missing")
    if digest is not None and seal.previous is None:
        raise ExportFailed(f"{path}: does not continue {files.of(before).name}, which is there")
    if digest is not None and seal.previous != digest:
        raise ExportFailed(
            f"{path}: was written after another {files.of(before).name} than the one that is there"
        )


def _opened(path: Path) -> Bytes:
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    """Say which file it was."""
    try:
        yield
    except (BlockingIOError, ExportFailed):
        raise
    except FileExistsError:
        raise ExportFailed(f"{path} is there already: remove it, or export to another name") from None
    except (EOFError, gzip.BadGzipFile, ZlibError):
        raise ExportFailed(f"{path}: it is cut off, or changed, so that it cannot be unpacked") from None
    except OSError as error:
        raise ExportFailed(f"{path}: {error.strerror or error}") from None
