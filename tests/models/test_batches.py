"""Batches: cut, decoded ahead and spread over threads, in order, with nothing left behind; against plain loops."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier, Event

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.models import batches
from mteb_vehicle_search.models.batches import (
    Lane,
    Towers,
    all_lanes,
    decoded,
    decoded_ahead,
    empty_batch,
    grouped,
    in_order,
    most_tokens,
    ranges,
    threads_of_lane,
    token_batches,
)

# Long enough for any machine: only a test that fails waits for it.
PATIENCE_S = 60
CPU, META = torch.device("cpu"), torch.device("meta")
quickly = settings(derandomize=True, deadline=None, max_examples=60)


def towers(name):
    return Towers(torch.nn.Identity(), name, name)


def lanes(number, threads=0):
    return [Lane(CPU, towers(str(index)), threads) for index in range(number)]


def named(prefix):
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def pixels_of(row):
    """Return the pixels that stand for a row: its number everywhere."""
    return torch.full((3, 4, 4), row, dtype=torch.uint8)


@pytest.fixture
def threads_set(monkeypatch):
    """Count torch's threads as 8, and give what each thread sets it to, by the name of the thread."""
    found = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: found.append((threading.current_thread().name, n)))
    return found


@pytest.fixture
def no_collection():
    """Keep the garbage collector out: an interrupt that arrives in one of its callbacks is lost, as Python has it."""
    gc.disable()
    yield
    gc.enable()


def test_towers_are_cast_and_places_use_all_threads_unless_told_otherwise():
    assert towers("one").cast is True
    assert Lane(CPU, towers("one")).threads == 0


@pytest.mark.parametrize(
    ("devices", "cpu_lanes", "wanted"),
    [
        # (device, threads) of each place.
        ([CPU], 1, [("cpu", 3)]),
        ([CPU], 8, [("cpu", 3)] * 8),
        ([CPU], 0, [("cpu", 3)]),
        ([CPU, CPU], 4, [("cpu", 3)] * 4),
        ([CPU, CPU], 5, [("cpu", 3)] * 4),
        ([CPU, CPU], 1, [("cpu", 3)] * 2),
        ([META], 4, [("meta", 0)]),
        ([META, META], 4, [("meta", 0)] * 2),
        ([META, CPU], 4, [("meta", 0)] + [("cpu", 3)] * 2),
    ],
    ids=str,
)
def test_a_processor_has_as_many_places_as_lanes(devices, cpu_lanes, wanted):
    replicas = [towers(str(number)) for number in range(len(devices))]
    found = all_lanes(devices, replicas, cpu_lanes, 3)
    assert [(str(lane.device), lane.threads) for lane in found] == wanted
    # The places of a device have its model.
    of_device = [found[start : start + len(found) // len(devices)] for start in (0, len(found) - 1)]
    assert of_device[0][0].towers is replicas[0]
    assert of_device[1][0].towers is replicas[-1]


@pytest.mark.parametrize(("usable", "wanted"), [(1, 1), (2, 1), (31, 1), (32, 2), (64, 4)])
def test_a_place_has_one_thread_unless_there_are_more_processors_than_places(monkeypatch, usable, wanted):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", str(usable))
    assert threads_of_lane() == wanted


def test_the_only_place_has_its_threads_while_it_computes_and_no_longer():
    before = torch.get_num_threads()
    lanes = [Lane(CPU, towers("one"), before + 1)]
    results = in_order(lanes, [0, 1], lambda batch, lane: torch.get_num_threads())
    assert next(results) == before + 1
    assert torch.get_num_threads() == before
    assert [*results] == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("number", [1, 2, 3])
def test_results_come_in_the_order_of_the_batches(number):
    first_may_end = Event()

    def work(batch, lane):
        if number > 1 and batch == 0:
            # The first batch ends after the second.
            assert first_may_end.wait(PATIENCE_S)
        if batch == 1:
            first_may_end.set()
        return batch * 10

    assert list(in_order(lanes(number), range(20), work)) == [batch * 10 for batch in range(20)]
    assert list(in_order(lanes(number), [], work)) == []
    assert named("device") == []


def test_each_place_computes_one_batch_at_a_time_and_all_of_them_compute():
    at_work, seen, together = [], set(), Barrier(3)

    def work(batch, lane):
        assert lane not in at_work
        at_work.append(lane)
        if batch < 3:
            # Passed only if three batches are computed at once.
            together.wait(PATIENCE_S)
        seen.add(lane)
        at_work.remove(lane)
        return batch

    three = lanes(3)
    assert list(in_order(three, range(30), work)) == list(range(30))
    assert seen == set(three)


def test_one_place_works_in_the_callers_thread_when_it_is_asked_to(threads_set):
    drawn = []
    found = in_order(lanes(1, threads=4), (drawn.append(n) or n for n in range(3)), lambda batch, lane: batch)
    assert drawn == []
    assert next(found) == 0
    assert drawn == [0]
    # Torch has them for a batch only.
    assert threads_set == [("MainThread", 4), ("MainThread", 8)]
    assert next(in_order(lanes(1), [0], lambda batch, lane: threading.current_thread())) is threading.current_thread()


def test_batches_are_drawn_two_for_each_place_ahead():
    # Batches of decoded images are large: not all of them may wait.
    drawn = []
    found = in_order(lanes(3), (drawn.append(n) or n for n in range(100)), lambda batch, lane: batch)
    for step in range(4):
        assert next(found) == step
        assert drawn == list(range(step + 2 * 3 + 1))
    found.close()
    assert named("device") == []


def test_threads_of_a_place_are_set_in_its_thread_and_put_back(threads_set):
    assert list(in_order(lanes(2, threads=3), range(4), lambda batch, lane: batch)) == [0, 1, 2, 3]
    assert {(name.rpartition("_")[0], n) for name, n in threads_set[:-1]} == {("device", 3)}
    assert len(threads_set) == 5
    assert threads_set[-1] == (threading.current_thread().name, 8)
    threads_set.clear()
    assert list(in_order(lanes(2, threads=0), range(4), lambda batch, lane: batch)) == [0, 1, 2, 3]
    assert threads_set == [(threading.current_thread().name, 8)]


def test_the_threads_of_places_are_in_inference_mode():
    found = in_order(lanes(2), range(4), lambda batch, lane: torch.is_inference_mode_enabled())
    assert list(found) == [True] * 4


@pytest.mark.usefixtures("no_collection")
def test_the_first_error_ends_it_and_what_waits_is_not_computed():
    computed, broken = [], Event()

    def work(batch, lane):
        if batch == 1:
            broken.set()
            raise ValueError("batch 1")
        if batch > 1:
            # Until the error is heard of, only what is at work goes on.
            assert broken.wait(PATIENCE_S)
            for _ in range(PATIENCE_S * 100):
                time.sleep(0.01)
        computed.append(batch)
        return batch

    found = in_order(lanes(2), range(50), work)
    assert next(found) == 0
    with pytest.raises(ValueError, match="batch 1"):
        list(found)
    assert computed == [0]
    assert named("device") == []


@pytest.mark.usefixtures("no_collection")
def test_leaving_interrupts_the_batches_at_work():
    # As Ctrl-C does, which arrives in the thread that draws from it.
    begun, ended = [], []

    def work(batch, lane):
        if batch == 0:
            return batch
        try:
            begun.append(batch)
            # Not a wait for a lock, out of which an interrupt may come as an error of the lock's.
            for _ in range(PATIENCE_S * 100):
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.append(batch)
            raise
        return batch

    found = in_order(lanes(2), range(9), work)
    assert next(found) == 0
    while len(begun) < 2:
        time.sleep(0.01)
    found.close()
    assert sorted(ended) == [1, 2]
    assert named("device") == []


@pytest.mark.usefixtures("no_collection")
def test_a_batch_that_waits_for_its_pixels_is_interrupted_too():
    release, in_time = Event(), []

    def decode(row):
        if row:
            in_time.append(release.wait(PATIENCE_S))
        return pixels_of(row)

    ahead = decoded_ahead(ranges(6, 1), decode, 4, workers=1, ahead=2, pinned=False)
    found = in_order(lanes(2), ahead, lambda pixels, lane: pixels())
    assert next(found).max() == 0
    found.close()
    assert named("device") == []
    release.set()
    ahead.close()
    assert all(in_time)
    assert named("decode") == []


@pytest.mark.usefixtures("no_collection")
def test_an_interrupted_thread_begins_no_other_batch(monkeypatch):
    # The batches that wait are only cancelled later, and nobody would interrupt the thread a second time.
    class SlowToEnd(ThreadPoolExecutor):
        def shutdown(self, *given, **named):
            time.sleep(0.2)
            super().shutdown(*given, **named)

    def work(batch, lane):
        begun.append(batch)
        if batch:
            for _ in range(PATIENCE_S * 100):
                time.sleep(0.01)
        return batch

    begun = []
    monkeypatch.setattr(batches, "ThreadPoolExecutor", SlowToEnd)
    found = in_order(lanes(2), range(9), work)
    assert next(found) == 0
    while len(begun) < 3:
        time.sleep(0.01)
    found.close()
    assert sorted(begun) == [0, 1, 2]
    assert named("device") == []


def test_only_threads_at_work_are_interrupted(monkeypatch):
    # An interrupt that comes in the idle part of a thread of the pool is printed as an error of its own.
    interrupted, busy, entered, leave = [], set(), Event(), Event()

    def interrupt(thread):
        interrupted.append(thread)
        leave.set()

    def work(batch, lane):
        if batch == 3:
            busy.add(threading.get_ident())
            entered.set()
            assert leave.wait(PATIENCE_S)
        elif batch == 2:
            assert entered.wait(PATIENCE_S)
        return batch

    monkeypatch.setattr(batches, "_interrupt", interrupt)
    found = in_order(lanes(2), range(4), work)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    found.close()
    assert set(interrupted) == busy


# Threads whose work is done wait for the lock that whoever interrupts them holds, in a process that is traced.
TRACED = """
import sys, threading, time
from mteb_vehicle_search.models import batches
from mteb_vehicle_search.models.batches import all_lanes, in_order

busy, leave = threading.Semaphore(0), threading.Event()

class Stopped(threading.Event):
    def set(self):
        super().set()
        leave.set()
        # Until both are done, and wait.
        time.sleep(1)

def work(batch, lane):
    if batch:
        busy.release()
        leave.wait()
    return batch

batches.Event = Stopped
found = in_order(all_lanes([batches.torch.device("cpu")], [None], 2, 1), range(9), work)
assert next(found) == 0
busy.acquire()
busy.acquire()
sys.settrace(lambda *event: None)
found.close()
sys.settrace(None)
print("closed")
"""


def test_a_traced_thread_interrupts_those_that_wait_for_its_lock():
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("closed\n", 0), done.stderr


@pytest.mark.usefixtures("no_collection")
def test_an_interrupt_arrives_in_that_very_thread():
    caught, ready = [], Event()

    def busy():
        try:
            ready.set()
            for _ in range(PATIENCE_S * 100):
                time.sleep(0.01)
        except KeyboardInterrupt:
            caught.append(threading.get_ident())

    thread = threading.Thread(target=busy)
    thread.start()
    assert ready.wait(PATIENCE_S)
    batches._interrupt(thread.ident)
    thread.join(PATIENCE_S)
    assert caught == [thread.ident]


def test_waiting_for_a_batch_is_cut_up_so_that_ctrl_c_is_noticed(monkeypatch):
    waits, release, wait = [], Event(), batches.wait

    def waited(futures, timeout=None):
        waits.append(timeout)
        found = wait(futures, timeout=0)
        if len(waits) == 3:
            release.set()
        return found

    monkeypatch.setattr(batches, "wait", waited)
    assert list(in_order(lanes(2), [7], lambda batch, lane: release.wait(PATIENCE_S) and batch)) == [7]
    assert len(waits) >= 4
    assert all(timeout is not None and 0 < timeout <= 1 for timeout in waits)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (2, 1), (3, 3), (16, 2)])
@pytest.mark.parametrize(("number", "size"), [(0, 4), (1, 4), (7, 1), (10, 4), (12, 4)])
def test_decoding_ahead_gives_what_decoding_here_does(number, size, workers, ahead):
    parts = list(ranges(number, size))
    found = [pixels() for pixels in decoded_ahead(parts, pixels_of, 4, workers=workers, ahead=ahead, pinned=False)]
    wanted = [torch.stack([pixels_of(row) for row in part]) for part in parts]
    assert len(found) == len(wanted)
    assert all(torch.equal(*both) for both in zip(found, wanted, strict=True))
    assert all(torch.equal(decoded(part, pixels_of, 4), batch) for part, batch in zip(parts, wanted, strict=True))
    assert named("decode") == []


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_so_many_batches_are_handed_to_the_threads_ahead(ahead):
    drawn = []
    parts = (drawn.append(start) or range(start, start + 2) for start in count(0, 2))
    found = decoded_ahead(parts, pixels_of, 4, workers=2, ahead=ahead, pinned=False)
    for step in range(3):
        assert next(found)()[:, 0, 0, 0].tolist() == [2 * step, 2 * step + 1]
        assert len(drawn) == step + ahead + 1
    found.close()
    assert named("decode") == []


@pytest.mark.parametrize(("rows", "workers", "at_once"), [(8, 4, [0, 2, 4, 6]), (5, 2, [0, 3]), (2, 5, [0, 1])])
def test_a_batch_is_shared_out_to_all_threads(rows, workers, at_once):
    together = Barrier(len(at_once))

    def decode(row):
        assert threading.current_thread().name.startswith("decode")
        assert torch.is_inference_mode_enabled()
        if row in at_once:
            # Passed only if these rows, the first of each share, are decoded at once.
            together.wait(PATIENCE_S)
        return pixels_of(row)

    with torch.inference_mode():
        found = decoded_ahead([range(rows)], decode, 4, workers=workers, ahead=0, pinned=False)
        assert next(found)()[:, 0, 0, 0].tolist() == list(range(rows))
        assert list(found) == []


def test_decoding_threads_leave_torchs_own_threads_alone(threads_set):
    for pixels in decoded_ahead([range(3)], pixels_of, 4, workers=3, ahead=0, pinned=False):
        pixels()
    assert {(name.rpartition("_")[0], n) for name, n in threads_set[:-1]} == {("decode", 1)}
    assert threads_set[-1] == (threading.current_thread().name, 8)


def test_batches_that_were_all_drawn_before_the_first_was_called_for_are_decoded_nevertheless():
    # So do several devices near the end of the data.
    all_drawn = Event()

    def parts():
        yield from ranges(10, 2)
        all_drawn.set()

    def decode(row):
        assert all_drawn.wait(PATIENCE_S)
        time.sleep(0.01)
        return pixels_of(row)

    found = list(decoded_ahead(parts(), decode, 4, workers=1, ahead=9, pinned=False))
    assert [pixels()[:, 0, 0, 0].tolist() for pixels in found] == [[row, row + 1] for row in range(0, 10, 2)]


def test_an_image_that_does_not_decode_raises_where_its_batch_is_called_for():
    def decode(row):
        if row == 5:
            raise ValueError("row 5")
        return pixels_of(row)

    found = decoded_ahead(ranges(9, 3), decode, 4, workers=2, ahead=1, pinned=False)
    assert next(found)()[:, 0, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="row 5"):
        next(found)()
    assert next(found)()[:, 0, 0, 0].tolist() == [6, 7, 8]
    assert list(found) == []
    with pytest.raises(ValueError, match="row 5"):
        decoded(range(4, 6), decode, 4)


@pytest.mark.parametrize("pinned", [False, True])
def test_memory_is_pinned_where_that_is_asked_for(monkeypatch, pinned):
    empty, asked = torch.empty, []

    def unpinned(*args, pin_memory=False, **given):
        asked.append(pin_memory)
        return empty(*args, **given)

    monkeypatch.setattr(torch, "empty", unpinned)
    list(decoded_ahead([range(2), range(1)], pixels_of, 4, workers=1, ahead=0, pinned=pinned))
    assert asked == [pinned] * 2
    decoded(range(2), pixels_of, 4)
    empty_batch(1, 4)
    empty_batch(1, 4, pinned=pinned)
    assert asked[2:] == [False, False, pinned]


def test_an_empty_batch_has_the_channels_last_as_decoders_give_them():
    batch = empty_batch(2, 5)
    assert (batch.shape, batch.dtype) == ((2, 3, 5, 5), torch.uint8)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_rows_and_places_must_be_as_many():
    for size in (1, 3):
        with pytest.raises(ValueError, match="zip"):
            batches._fill(empty_batch(size, 4), range(2), pixels_of)


@quickly
@given(st.integers(0, 40), st.integers(1, 12))
@example(8, 4)
@example(9, 4)
def test_ranges_cover_every_row_once(number, size):
    found = list(ranges(number, size))
    assert [row for part in found for row in part] == list(range(number))
    assert all(len(part) == size for part in found[:-1])
    assert all(1 <= len(part) <= size for part in found)


@quickly
@given(st.integers(0, 20), st.integers(1, 7))
def test_grouped_images_can_be_called_for_in_any_order(number, size):
    found = list(grouped((pixels_of(row) for row in range(number)), size))
    wanted = [list(part) for part in ranges(number, size)]
    calls = {index: found[index]() for index in reversed(range(len(found)))}
    assert [calls[index][:, 0, 0, 0].tolist() for index in range(len(found))] == wanted


def test_grouped_images_are_decoded_a_batch_at_a_time():
    drawn = []
    found = grouped((drawn.append(row) or pixels_of(row) for row in range(9)), 3)
    next(found)
    assert drawn == [0, 1, 2]


def plain_token_batches(lengths, limit):
    """Cut row numbers, shortest first, wherever one more would make the padded batch larger than the limit."""
    found = []
    for row in range(len(lengths)):
        if found and (len(found[-1]) + 1) * lengths[row] <= limit:
            found[-1].append(row)
        else:
            found.append([row])
    return found


@quickly
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
@example([10] * 13, 60)
@example([70, 80], 60)
def test_token_batches_hold_as_many_texts_as_fit(lengths, limit):
    lengths = sorted(lengths)
    # Rows in another order than their lengths: the last row is the shortest.
    order = torch.arange(len(lengths) - 1, -1, -1)
    of_row = torch.tensor(lengths[::-1], dtype=torch.int64)
    found = [part.tolist() for part in token_batches(order, of_row, 1000, limit)]
    wanted = plain_token_batches(lengths, limit)
    assert found == [[int(order[lane]) for lane in part] for part in wanted]


@pytest.mark.parametrize(
    ("texts", "longest", "wanted"),
    [
        # 256 texts of 64, 212 of 77.
        (256, 64, [256]),
        (257, 64, [256, 1]),
        (600, 77, [212, 212, 176]),
        (2, 16_384, [1, 1]),
        (2, 8_192, [2]),
        (2, 20_000, [1, 1]),
        (0, 77, []),
    ],
)
def test_a_batch_has_at_most_16384_tokens(texts, longest, wanted):
    order, most = torch.arange(texts), most_tokens(torch.device("cuda"))
    assert [len(part) for part in token_batches(order, None, longest, most)] == wanted
    # With lengths, the longest text of all is not what counts.
    same = torch.full((texts,), longest)
    assert [len(part) for part in token_batches(order, same, 10 * longest, most)] == wanted


def test_a_batch_has_at_most_4096_tokens_on_a_processor():
    assert most_tokens(torch.device("cpu")) == 4096


@quickly
@given(st.integers(0, 12), st.integers(0, 15))
def test_a_window_gives_every_item_having_drawn_some_ahead(number, ahead):
    drawn, found = [], []
    for item in batches._window((drawn.append(item) or item for item in range(number)), ahead):
        found.append(item)
        assert len(drawn) == min(number, len(found) + ahead)
    assert found == list(range(number))


def test_a_pool_ends_with_its_threads_and_drops_what_waits_even_after_an_error(threads_set):
    started, futures, done = Event(), [], []

    def task():
        started.set()
        # At work when the error comes, until what waits has been dropped.
        for _ in range(PATIENCE_S * 100):
            if len(futures) == 3 and futures[2].cancelled():
                break
            time.sleep(0.01)
        done.append(threading.current_thread().name)

    def spoiled():
        with batches._threads(1, "spool") as pool:
            futures.extend(pool.submit(task) for _ in range(3))
            assert started.wait(PATIENCE_S)
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        spoiled()
    assert done == ["spool_0"]
    assert [future.cancelled() for future in futures] == [False, True, True]
    assert named("spool") == []
    assert threads_set == [(threading.current_thread().name, 8)]
