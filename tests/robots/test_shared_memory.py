import itertools
import os
import threading
import time
import zlib

import numpy as np
import pytest

from robots.shared_memory import Mailbox, Packing, Region


def box(size=64):
    return Mailbox(memoryview(bytearray(Mailbox.room(size))), size)


def test_the_newest_message_is_read_and_reading_takes_nothing_away():
    mailbox = box()
    assert mailbox.read() is None
    for number in range(1, 6):
        mailbox.write(b"%d" % number)
        assert mailbox.read() == mailbox.read() == (number, b"%d" % number)


def test_a_torn_message_is_passed_over_for_the_one_before():
    memory = memoryview(bytearray(Mailbox.room(64)))
    mailbox = Mailbox(memory, 64)
    mailbox.write(b"first message")
    mailbox.write(b"second message")
    for place in range(len(memory)):
        if memory[place : place + 6].tobytes() == b"second":
            memory[place] ^= 1
            break
    assert mailbox.read() == (1, b"first message")


def test_a_first_message_that_is_not_whole_yet_is_none():
    memory = memoryview(bytearray(Mailbox.room(64)))
    mailbox = Mailbox(memory, 64)
    mailbox.write(b"first message")
    place = bytes(memory).index(b"first")
    memory[place] ^= 1
    assert mailbox.read() is None


def test_a_message_that_is_too_long_is_refused_and_the_old_one_stays():
    mailbox = box(4)
    mailbox.write(b"1234")
    with pytest.raises(ValueError, match="5 bytes"):
        mailbox.write(b"12345")
    assert mailbox.read() == (1, b"1234")


def test_a_writer_in_another_process_is_never_read_torn(tmp_path):
    size, messages = 4096, 20_000
    region = Region(tmp_path / "region", {"data": size}, create=True)
    child = os.fork()
    if not child:
        for number in itertools.count():
            if number >= messages and region.words[1]:
                break
            body = bytes([number % 256]) * (size - 4)
            region.boxes["data"].write(zlib.crc32(body).to_bytes(4, "little") + body)
            time.sleep(1e-5)  # some ten times as often as any robot writes; faster, and no reader gets through
        region.words[0] = 1
        os._exit(0)
    seen, numbers = 0, []
    try:
        while not region.words[0]:
            if (read := region.boxes["data"].read()) is not None:
                numbers.append(read[0])
                assert zlib.crc32(read[1][4:]).to_bytes(4, "little") == read[1][:4]
                seen += 1
                region.words[1] = seen > 10
    finally:
        region.words[1] = 1
        os.waitpid(child, 0)
    assert numbers == sorted(numbers)


def test_a_new_writer_goes_on_where_the_old_one_ended(tmp_path):
    Region(tmp_path / "region", {"data": 16}, create=True).boxes["data"].write(b"old")
    again = Region(tmp_path / "region", {"data": 16}, create=False)
    again.boxes["data"].write(b"new")
    assert again.boxes["data"].read() == (2, b"new")


def test_another_layout_is_refused_and_the_file_is_private(tmp_path):
    Region(tmp_path / "region", {"data": 16}, create=True)
    assert os.stat(tmp_path / "region").st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="another layout"):
        Region(tmp_path / "region", {"data": 4096}, create=False)


def test_words_are_stored_from_any_thread(tmp_path):
    region = Region(tmp_path / "region", {}, create=True)
    thread = threading.Thread(target=lambda: region.words.__setitem__(3, 2**63))
    thread.start()
    thread.join()
    assert Region(tmp_path / "region", {}, create=False).words[3] == 2**63


def test_arrays_come_back_as_they_were():
    packing = Packing({"b": (np.dtype("f4"), (3,)), "a": (np.dtype("u1"), (2, 2, 1)), "n": (np.dtype("i8"), ())})
    values = {"a": np.arange(4, dtype="u1").reshape(2, 2, 1), "b": np.array([1, np.nan, 3], "f4"), "n": np.int64(-7)}
    back = packing.unpack(packing.pack(values))
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)
