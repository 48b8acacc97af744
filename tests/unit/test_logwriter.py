"""The writer of log lines: nothing waits for it, nothing is lost unsaid."""

import os
import threading
from pathlib import Path

import pytest

from shared.process.logwriter import LogWriter
from tests.waiting import wait_for


def dropped(lines: int) -> bytes:
    return b"dropped %d\n" % lines


def count(said: bytes) -> tuple[int, int]:
    """Return how many lines were written, and how many are said to be dropped."""
    written = gone = 0
    for line in said.splitlines():
        word, _, number = line.partition(b" ")
        if word == b"dropped":
            gone += int(number)
        else:
            assert word == b"line", line
            written += 1
    return written, gone


@pytest.mark.case(n=43)
def test_lines_are_written_in_order(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        writer = LogWriter(log.fileno(), dropped)
        for number in range(5000):
            writer.put(b"line %d\n" % number)
        assert writer.flush(30)
    assert (tmp_path / "log").read_bytes() == b"".join(b"line %d\n" % number for number in range(5000))


@pytest.mark.case(n=43)
def test_a_reader_that_stalls_delays_nobody_and_what_does_not_fit_is_counted() -> None:
    reader, pipe = os.pipe()
    writer = LogWriter(pipe, dropped, most_bytes=10_000)
    put = 0
    while writer.flush(1):  # until the pipe is full
        for _ in range(500):
            writer.put(b"line %07d\n" % put)
            put += 1
    for _ in range(5000):
        writer.put(b"line %07d\n" % put)
        put += 1

    said = bytearray()
    reading = threading.Thread(target=lambda: said.extend(iter_read(reader)))
    reading.start()
    assert writer.flush(30)
    writer.put(b"line last\n")
    assert writer.flush(30)
    os.close(pipe)
    reading.join(30)
    written, gone = count(bytes(said))
    assert written + gone == put + 1
    assert gone > 0
    assert b"line last\n" in said


def iter_read(reader: int) -> bytes:
    found = b""
    while block := os.read(reader, 65_536):
        found += block
    return found


@pytest.mark.case(n=43)
def test_lines_that_cannot_be_written_are_dropped_and_counted_once_it_is_well_again(tmp_path: Path) -> None:
    target = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(target, dropped)
    for _ in range(300):
        writer.put(b"line x\n")
    assert writer.flush(30)
    # The same file descriptor, as when a disk has room again.
    os.dup2(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), target)
    writer.put(b"line y\n")
    assert writer.flush(30)
    wait_for(lambda: count((tmp_path / "log").read_bytes()) == (1, 300), "the count")
    writer.put(b"line z\n")
    assert writer.flush(30)
    assert (tmp_path / "log").read_bytes() == b"line y\ndropped 300\nline z\n"


@pytest.mark.case(n=43)
@pytest.mark.parametrize("how", ["gone", "closed", "never there"])
def test_a_reader_that_is_gone_or_a_closed_file_raises_nothing(how: str) -> None:
    reader, pipe = os.pipe()
    if how == "closed":
        os.close(pipe)
    os.close(reader)
    writer = LogWriter(-1 if how == "never there" else pipe, dropped)
    for _ in range(1000):
        writer.put(b"line x\n")
    assert writer.flush(30)


@pytest.mark.case(n=43)
def test_a_file_descriptor_that_does_not_block_loses_nothing() -> None:
    """Whoever shares a pipe with us may set that for all."""
    reader, pipe = os.pipe()
    os.set_blocking(pipe, False)
    writer = LogWriter(pipe, dropped)
    for number in range(20_000):
        writer.put(b"line %05d\n" % number)
    said = b""
    while said.count(b"\n") < 20_000:
        said += os.read(reader, 65_536)
    assert said == b"".join(b"line %05d\n" % number for number in range(20_000))


@pytest.mark.case(n=43)
def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_whole_lines_after_it() -> None:
    """A pipe that takes a part stands in for the disk."""
    reader, pipe = os.pipe()
    writer = LogWriter(pipe, dropped)
    long = b"line " + b"x" * 200_000 + b"\n"  # the pipe takes a part of it; then nobody reads any more
    writer.put(long)
    got = os.read(reader, 10)
    assert got == b"line xxxxx"
    spare, end = os.pipe()
    os.close(reader)  # EPIPE for the rest
    assert writer.flush(30)
    os.dup2(end, pipe)
    os.close(end)
    writer.put(b"line y\n")
    assert writer.flush(30)
    os.close(pipe)
    assert iter_read(spare) == b"\nline y\ndropped 1\n"


@pytest.mark.case(n=43)
def test_signals_reach_no_thread_of_the_log() -> None:
    """The supervisor blocks its signals and waits for them; a thread that did not would end the process."""
    reader, pipe = os.pipe()
    LogWriter(pipe, dropped)
    thread = next(each for each in threading.enumerate() if each.name == "log")
    [mask] = [
        line.split()[1]
        for line in Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
        if line.startswith("SigBlk")
    ]
    assert int(mask, 16) & (1 << (15 - 1))
    os.close(reader)
