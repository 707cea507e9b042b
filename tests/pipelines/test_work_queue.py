import multiprocessing
import os
import signal

import pytest

from more4d.foundation.errors import DistributedError
from more4d.pipelines.work_queue import FOLDER, WorkQueue


def test_each_item_is_taken_once(tmp_path):
    first, second = WorkQueue(tmp_path, 0), WorkQueue(tmp_path, 1)
    first.prepare()
    with first.joined(), second.joined():
        one, other = first.claim_items(5), second.claim_items(5)
        assert [next(one), next(other), next(other), next(one), next(other)] == [0, 1, 2, 3, 4]
        assert list(one) == [] and list(other) == []


def test_what_was_told_is_gathered_when_its_process_has_ended(tmp_path):
    first, second = WorkQueue(tmp_path, 0), WorkQueue(tmp_path, 1)
    first.prepare()
    with first.joined():
        with second.joined():
            for index in second.claim_items(1):
                second.mark_done(index, {"seconds": 2.0}, memory_mib=7)
            assert [share.process for share in first.collect(2, wait=False)] == [0]  # one is at work
        (_, share) = first.collect(2, wait=True)
    assert share.outcomes == {0: {"seconds": 2.0}} and share.memory_mib == 7 and share.end is None


def test_a_process_that_stops_says_why(tmp_path):
    first, second = WorkQueue(tmp_path, 0), WorkQueue(tmp_path, 1)
    first.prepare()
    with first.joined():
        with pytest.raises(OSError, match="disk"), second.joined():
            next(second.claim_items(3))
            raise OSError("no disk")
        (_, share) = first.collect(2, wait=True)
    assert share.item == 0 and share.end == f"process 1 (pid {os.getpid()}) stopped: no disk"


def be_killed(folder):
    shares = WorkQueue(folder, 1)
    with shares.joined():
        next(shares.claim_items(3))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_known_by_its_lock(tmp_path):
    first = WorkQueue(tmp_path, 0)
    first.prepare()
    with first.joined():
        killed = multiprocessing.get_context("spawn").Process(target=be_killed, args=(tmp_path,))
        killed.start()
        killed.join()
        (_, share) = first.collect(2, wait=True)
    assert share.item == 0 and share.end == f"process 1 (pid {killed.pid}) was killed"


def test_all_hear_the_verdict_and_the_place_is_cleared(tmp_path):
    first, second = WorkQueue(tmp_path, 0), WorkQueue(tmp_path, 1)
    first.prepare()
    with first.joined():
        with second.joined():
            pass
        first.set_exit_code(1)
    assert second.wait_exit_code() == 1
    first.remove([1])
    assert not (tmp_path / FOLDER).exists()


def test_a_first_process_that_ends_without_a_verdict_is_not_waited_for(tmp_path):
    first, second = WorkQueue(tmp_path, 0), WorkQueue(tmp_path, 1)
    first.prepare()
    with first.joined(), second.joined():
        pass
    with pytest.raises(DistributedError, match="process 0 ended"):
        second.wait_exit_code()


def test_an_output_that_is_not_shared_is_refused(tmp_path):
    shares = WorkQueue(tmp_path, 3)
    with pytest.raises(DistributedError, match="process 3 does not see"), shares.joined():
        raise AssertionError


def test_what_an_earlier_run_left_is_forgotten(tmp_path):
    earlier = WorkQueue(tmp_path, 0)
    earlier.prepare()
    with earlier.joined():
        list(earlier.claim_items(4))
    again = WorkQueue(tmp_path, 0)
    again.prepare()
    with again.joined():
        assert next(again.claim_items(4)) == 0
