import multiprocessing
import os
import signal

import pytest

from more4d.foundation.errors import ProcessesError
from more4d.pipelines.work_shares import FOLDER, WorkShares


def test_each_item_is_taken_once(tmp_path):
    first, second = WorkShares(tmp_path, 0), WorkShares(tmp_path, 1)
    first.prepare()
    with first.joined(), second.joined():
        one, other = first.taken(5), second.taken(5)
        assert [next(one), next(other), next(other), next(one), next(other)] == [0, 1, 2, 3, 4]
        assert list(one) == [] and list(other) == []


def test_what_was_told_is_gathered_when_its_process_has_ended(tmp_path):
    first, second = WorkShares(tmp_path, 0), WorkShares(tmp_path, 1)
    first.prepare()
    with first.joined():
        with second.joined():
            for index in second.taken(1):
                second.done(index, {"seconds": 2.0}, memory_mib=7)
            assert [share.process for share in first.gathered(2, wait=False)] == [0]  # one is at work
        (_, share) = first.gathered(2, wait=True)
    assert share.told == {0: {"seconds": 2.0}} and share.memory_mib == 7 and share.end is None


def test_a_process_that_stops_says_why(tmp_path):
    first, second = WorkShares(tmp_path, 0), WorkShares(tmp_path, 1)
    first.prepare()
    with first.joined():
        with pytest.raises(OSError, match="disk"), second.joined():
            next(second.taken(3))
            raise OSError("no disk")
        (_, share) = first.gathered(2, wait=True)
    assert share.item == 0 and share.end == f"process 1 (pid {os.getpid()}) stopped: no disk"


def be_killed(folder):
    shares = WorkShares(folder, 1)
    with shares.joined():
        next(shares.taken(3))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_known_by_its_lock(tmp_path):
    first = WorkShares(tmp_path, 0)
    first.prepare()
    with first.joined():
        killed = multiprocessing.get_context("spawn").Process(target=be_killed, args=(tmp_path,))
        killed.start()
        killed.join()
        (_, share) = first.gathered(2, wait=True)
    assert share.item == 0 and share.end == f"process 1 (pid {killed.pid}) was killed"


def test_all_hear_the_verdict_and_the_place_is_cleared(tmp_path):
    first, second = WorkShares(tmp_path, 0), WorkShares(tmp_path, 1)
    first.prepare()
    with first.joined():
        with second.joined():
            pass
        first.judge(1)
    assert second.verdict() == 1
    first.remove([1])
    assert not (tmp_path / FOLDER).exists()


def test_a_first_process_that_ends_without_a_verdict_is_not_waited_for(tmp_path):
    first, second = WorkShares(tmp_path, 0), WorkShares(tmp_path, 1)
    first.prepare()
    with first.joined(), second.joined():
        pass
    with pytest.raises(ProcessesError, match="process 0 ended"):
        second.verdict()


def test_an_output_that_is_not_shared_is_refused(tmp_path):
    shares = WorkShares(tmp_path, 3)
    with pytest.raises(ProcessesError, match="process 3 does not see"), shares.joined():
        raise AssertionError


def test_what_an_earlier_run_left_is_forgotten(tmp_path):
    earlier = WorkShares(tmp_path, 0)
    earlier.prepare()
    with earlier.joined():
        list(earlier.taken(4))
    again = WorkShares(tmp_path, 0)
    again.prepare()
    with again.joined():
        assert next(again.taken(4)) == 0
