"""Reading ahead and writing behind: order, bounds and errors."""

import threading
import time

import pytest

from perturbflow.machine.prefetch import ahead, behind


class FileError(Exception):
    pass


def test_ahead_keeps_the_order_and_works_in_another_thread():
    threads = set()

    def load(item):
        threads.add(threading.current_thread())
        return item**2

    assert list(ahead(load, range(20))) == [n**2 for n in range(20)]
    assert list(ahead(load, [])) == []
    assert len(threads) >= 1 and threading.current_thread() not in threads


def test_ahead_loads_while_the_last_item_is_used_but_not_more_than_depth():
    begun = []
    for n_used, item in enumerate(ahead(begun.append, range(20), depth=3), start=1):
        assert item is None
        time.sleep(0.002)
        assert n_used <= len(begun) <= n_used + 3
    assert begun == list(range(20))

    begun.clear()
    items = ahead(begun.append, range(20), depth=3)
    next(items)
    time.sleep(0.05)
    assert len(begun) == 4
    items.close()


def test_an_error_of_load_is_raised_in_its_place():
    def load(item):
        if item == 3:
            raise FileError("image 3")
        return item

    seen = []
    with pytest.raises(FileError, match="image 3"):
        seen.extend(ahead(load, range(10)))
    assert len(seen) <= 3


def test_behind_keeps_the_order_and_is_done_at_the_end():
    written = []

    def write(*values):
        time.sleep(0.001)
        written.append(values)

    with behind(write) as write_behind:
        for number in range(20):
            write_behind(number, -number)
    assert written == [(n, -n) for n in range(20)]


def test_behind_waits_when_too_much_is_to_be_written():
    gate = threading.Event()
    with behind(lambda number: gate.wait(5), depth=2) as write_behind:
        write_behind(0)
        write_behind(1)
        threading.Timer(0.05, gate.set).start()
        started = time.monotonic()
        write_behind(2)
        assert time.monotonic() - started > 0.02


@pytest.mark.parametrize("n_after", [0, 1, 10])
def test_an_error_of_a_write_is_raised(n_after):
    def write(number):
        if number == 0:
            raise FileError("disk full")

    with pytest.raises(FileError, match="disk full"), behind(write) as write_behind:
        for number in range(1 + n_after):
            write_behind(number)


def test_an_error_in_the_block_is_the_one_that_is_raised():
    written = []
    with pytest.raises(ZeroDivisionError), behind(written.append) as write_behind:
        write_behind(0)
        raise ZeroDivisionError
    assert written == [0]
