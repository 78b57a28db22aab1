"""Of many processes one has a unit; who dies loses what it had, and who was taken for dead notices."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from soct.errors import InputError, LockedError
from soct.pipeline.together.claims import Claims
from soct.pipeline.together.holder import myself
from soct.pipeline.together.lock import hold, hold_together
from soct.pipeline.together.members import Membership, live_members, read_member
from soct.steps.declaration import Unit

UNITS = [Unit("read", (number,)) for number in range(40)]
ELSEWHERE = {"machine": "another", "host": "node7"}


def member(folder: Path, **changes: object) -> Membership:
    return Membership(folder, replace(myself("soct run --join"), **changes))


def claim_all(folder: Path) -> list[str]:
    with member(folder) as members:
        claims = Claims(members)
        return [unit.name for unit in UNITS if claims.take(unit)]


def test_of_many_threads_exactly_one_gets_a_unit(tmp_path):
    won: list[str] = []
    threads = [threading.Thread(target=lambda: won.extend(claim_all(tmp_path))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(won) == Counter(unit.name for unit in UNITS)


def test_of_many_processes_exactly_one_gets_a_unit(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        won = pool.map(claim_all, [tmp_path] * 8, chunksize=1)
    assert Counter(chain.from_iterable(won)) == Counter(unit.name for unit in UNITS)


def test_a_claim_names_its_process_and_is_never_seen_empty(tmp_path):
    seen = set()
    over = threading.Event()

    def look():
        path = tmp_path / "state/claims/read/z00.json"
        while not over.is_set():
            try:
                text = path.read_text()
            except FileNotFoundError:
                continue
            seen.add(json.loads(text)["pid"])

    watcher = threading.Thread(target=look)
    watcher.start()
    with member(tmp_path) as members:
        claims = Claims(members)
        for _ in range(300):
            assert claims.take(UNITS[0])
            claims.release(UNITS[0])
    over.set()
    watcher.join()
    assert seen == {os.getpid()}


def test_claims_are_files_of_open_units_only(tmp_path):
    with member(tmp_path) as members:
        claims = Claims(members)
        for unit in UNITS:
            assert claims.take(unit)
            assert claims.holds(unit)
        assert claims.taken("read") == {unit.name for unit in UNITS}
        for unit in UNITS:
            claims.release(unit)
        assert claims.taken("read") == frozenset()
    assert list((tmp_path / "state/processes").iterdir()) == []


def test_without_hard_links_a_claim_is_still_one_processs(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with member(tmp_path) as one, member(tmp_path) as two:
        first, second = Claims(one), Claims(two)
        assert (first.take(UNITS[0]), second.take(UNITS[0])) == (True, False)
        assert first.holds(UNITS[0])
        assert not second.holds(UNITS[0])
        first.release(UNITS[0])
        assert second.take(UNITS[0])


def test_an_answer_that_was_lost_on_the_way_is_no_loss_of_the_claim(tmp_path, monkeypatch):
    link = os.link

    def link_and_lose_the_answer(source, target):
        link(source, target)
        link(source, target)

    with member(tmp_path) as members:
        claims = Claims(members)
        (tmp_path / "state/claims/read").mkdir(parents=True)
        monkeypatch.setattr(os, "link", link_and_lose_the_answer)
        assert claims.take(UNITS[0])


DYING = """
import sys
from pathlib import Path
from soct.pipeline.together.claims import Claims
from soct.pipeline.together.holder import myself
from soct.pipeline.together.members import Membership
from soct.steps.declaration import Unit
members = Membership(Path(sys.argv[1]), myself("dies")).__enter__()
assert Claims(members).take(Unit("read", (0,)))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_the_units_of_a_killed_process_on_this_machine_are_free_at_once(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"claimed\n"
    with member(tmp_path) as members:
        claims = Claims(members)
        claims.bury_dead()
        assert not claims.take(UNITS[0])
        # Not waited for: it stays a zombie, as under a container's first process.
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert claims.bury_dead() == 1
        assert claims.take(UNITS[0])
    process.communicate()


def test_a_process_elsewhere_is_dead_when_its_heartbeat_is_old_by_the_file_systems_clock(
    tmp_path, monkeypatch
):
    # Whatever the clock of this machine says.
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with member(tmp_path, **ELSEWHERE) as other, member(tmp_path) as members:
        other._ended.set()
        other._thread.join()
        theirs, claims = Claims(other), Claims(members)
        assert theirs.take(UNITS[0])
        now = members.beat()
        os.utime(other.path, (now - 50, now - 50))
        assert claims.bury_dead() == 0
        os.utime(other.path, (now - 70, now - 70))
        members._peers.clear()
        assert claims.bury_dead() == 1
        assert claims.take(UNITS[0])
        # It only slept: what it had is lost, and it goes on under another name.
        assert not theirs.holds(UNITS[0])
        theirs.release(UNITS[0])
        assert claims.holds(UNITS[0])
        assert theirs.take(UNITS[1])
        assert theirs.holds(UNITS[1])
        assert claims.bury_dead() == 0


def test_one_touch_keeps_all_claims_of_a_process_young(tmp_path):
    with member(tmp_path) as members:
        claims = Claims(members)
        assert claims.take(UNITS[0])
        assert claims.take(UNITS[1])
        os.utime(members.path, (1, 1))
        now = members.beat()
        ages = [now - p.stat().st_mtime for p in (tmp_path / "state/claims/read").iterdir()]
        assert ages == [0, 0]


def test_exactly_one_of_many_buries_a_dead_process(tmp_path):
    dead = member(tmp_path, pid=2**22 + 1)
    dead._register()
    assert Claims(dead).take(UNITS[0])
    freed = []
    with member(tmp_path) as one, member(tmp_path) as two, member(tmp_path) as three:
        everybody = [one, two, three]
        start = threading.Barrier(3)

        def bury(members):
            start.wait()
            members.bury_dead(freed.append)

        threads = [threading.Thread(target=bury, args=(members,)) for members in everybody]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert freed == [dead.me.id]
    os.close(dead._descriptor)


def test_a_burial_that_was_killed_in_the_middle_is_finished_by_the_next(tmp_path):
    dead = member(tmp_path, pid=2**22 + 1)
    dead._register()
    assert Claims(dead).take(UNITS[0])
    killed = member(tmp_path, pid=2**22 + 2)
    killed._register()
    dead.path.rename(dead.path.with_name(f".{dead.me.id}.buried-by.{killed.me.id}"))
    with member(tmp_path) as members:
        claims = Claims(members)
        while claims.bury_dead():
            pass
        assert claims.take(UNITS[0])
        assert [p.name for p in (tmp_path / "state/processes").iterdir()] == [members.path.name]
    os.close(dead._descriptor)
    os.close(killed._descriptor)


def test_a_claim_of_nobody_is_free_once_that_has_been_so_for_long(tmp_path, monkeypatch):
    monkeypatch.setenv("SOCT_STALE_S", "0.2")
    folder = tmp_path / "state/claims/read"
    folder.mkdir(parents=True)
    with member(tmp_path) as one, member(tmp_path) as two:
        first, second = Claims(one), Claims(two)
        (folder / "z00.json").touch()
        assert second.take(UNITS[1])
        two.path.unlink()
        assert first.take(UNITS[2])
        first.free_orphans(UNITS[:3])
        assert first.taken("read") == {"z00", "z01", "z02"}
        time.sleep(0.3)
        first.free_orphans(UNITS[:3])
        assert first.taken("read") == {"z02"}
        assert [path.name for path in folder.iterdir()] == ["z02.json"]
        two.renew()
        assert second.take(UNITS[1])


def test_a_process_that_slept_gives_the_others_time_to_be_heard(tmp_path):
    with member(tmp_path, **ELSEWHERE) as other, member(tmp_path) as members:
        other._ended.set()
        other._thread.join()
        now = members.beat()
        os.utime(other.path, (now - 70, now - 70))
        members._beat_at -= members.stale_s / 2
        assert Claims(members).bury_dead() == 0
        members._judges_from = 0.0
        members._peers.clear()
        assert Claims(members).bury_dead() == 1


def test_what_only_one_may_do_is_done_one_after_the_other(tmp_path):
    at_it, most = [], []

    def work():
        with member(tmp_path) as members:
            claims = Claims(members)
            for _ in range(5):
                with claims.alone() as got:
                    assert got
                    at_it.append(1)
                    most.append(len(at_it))
                    time.sleep(0.002)
                    at_it.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_who_waits_for_its_turn_can_give_up(tmp_path):
    with member(tmp_path) as one, member(tmp_path) as two:
        with Claims(one).alone(), Claims(two).alone(lambda: True) as got:
            assert not got
        with Claims(two).alone(lambda: True) as got:
            assert got


def test_the_lock_is_held_by_one_alone_or_by_many_together(tmp_path):
    with hold_together(tmp_path), hold_together(tmp_path), member(tmp_path, **ELSEWHERE):
        with pytest.raises(LockedError, match=r"on node7 by") as caught, hold(tmp_path, "plain"):
            pass
        assert "--join" in caught.value.hint
    with (
        hold(tmp_path, "soct run --plain"),
        pytest.raises(LockedError, match="soct run --plain"),
        hold_together(tmp_path),
    ):
        pass
    with hold_together(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_and_processes_still_cooperate(tmp_path, monkeypatch):
    def refuse(descriptor, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match="no file locks") as caught, hold(tmp_path, "soct run"):
        pass
    assert "--join" in caught.value.hint
    with hold_together(tmp_path) as locked:
        assert not locked


def test_live_members_are_told_without_touching_anything(tmp_path):
    assert live_members(tmp_path) == ()
    with member(tmp_path, slurm_job="12", slurm_task="3") as members:
        (found,) = live_members(tmp_path)
        assert found == members.me == read_member(members.path)
        assert "Slurm job 12, task 3" in str(found)
    assert live_members(tmp_path) == ()
