"""Several processes bring one run folder up to date: each unit once, the same bytes, whatever becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from soct.errors import LockedError
from soct.pipeline.events import (
    Notice,
    RunPlanned,
    UnitAdopted,
    UnitFailed,
    UnitFinished,
    ignore,
)
from soct.pipeline.folder.records import RecordStore
from soct.pipeline.folder.status import UnitState, read_status
from soct.pipeline.preparation import prepare
from soct.pipeline.request import Resources, Selection
from soct.pipeline.together import joined_run, members
from soct.pipeline.together.claims import Claims
from soct.pipeline.together.cooperation import Claimed, Together
from soct.pipeline.together.holder import myself
from soct.pipeline.together.lock import hold_together
from soct.pipeline.together.members import Membership
from soct.steps.declaration import Unit
from tests.pipeline.fake_pipeline import N_UNITS, data_bytes, make_input, make_request, run_fake

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    source = make_input(folder / "in")
    run_fake(source, folder / "out")
    return source, data_bytes(folder / "out")


@pytest.fixture
def often(monkeypatch):
    """Look at the others more often than once per second, and wait for them however slow they are."""
    monkeypatch.setattr("soct.pipeline.together.cooperation.LOOK_S", 0.05)
    monkeypatch.setattr("soct.pipeline.scheduler.TICK_S", 0.05)
    monkeypatch.setattr("soct.pipeline.together.joined_run.LEAVING_S", 120.0)


def join(number, source, folder, changes=None, listener=ignore, **other):
    """Run in that many threads, each of which is a process to the others; return outcomes or errors.

    No slice is read before all have joined.
    """
    found, planned = [], []
    gate = folder.with_name(f"{folder.name}-gate-{number}")
    changes = {"read.gate": str(gate), **(changes or {})}

    def listen(event):
        if isinstance(event, RunPlanned):
            planned.append(event)
            if len(planned) == number:
                gate.touch()
        listener(event)

    def work():
        try:
            found.append(run_fake(source, folder, changes, listen, join=True, **other))
        except LockedError as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def opening(gate, kind):
    """Return a listener that opens a gate once something of this kind has happened."""
    return lambda event: gate.touch() if isinstance(event, kind) else None


def start(source, folder, changes=None, resources=None, before=(), **environment):
    arguments = [json.dumps(changes or {}), json.dumps(resources or {"cpus": 1}), "--join"]
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tests.pipeline.fake_pipeline", source, folder, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
    )


def ended(processes, seconds=120):
    codes = [process.wait(seconds) for process in processes]
    texts = [process.stderr.read().decode() for process in processes]
    for process in processes:
        process.stderr.close()
    return codes, texts


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_claim(folder, pid):
    claims = (folder / "state/claims/read").glob("*.json")
    return pid in {h.pid for h in map(members.read_member, claims) if h is not None}


def left_over(folder):
    """Return what processes should have taken away."""
    state = folder / "state"
    found = [p for p in folder.rglob("*") if ".partial" in p.name]
    return found + [
        p for name in ("claims", "processes", "progress") for p in (state / name).rglob("*.json")
    ]


@pytest.mark.usefixtures("often")
def test_each_unit_is_computed_once_and_all_have_the_bytes_of_one_process(alone, tmp_path):
    source, expected = alone
    folder = tmp_path / "out"
    outcomes = join(4, source, folder)
    assert {(o.state, o.exit_code, o.pending) for o in outcomes} == {("complete", 0, 0)}
    computed = Counter(unit for o in outcomes for unit in o.computed)
    assert len(computed) == N_UNITS
    assert set(computed.values()) == {1}
    for o in outcomes:
        assert len(o.computed) + o.elsewhere + o.reused == N_UNITS
    assert [o.reports for o in outcomes].count(True) == 1
    assert data_bytes(folder) == expected
    assert not left_over(folder)
    status = read_status(folder)
    assert (status.state, len(status.document.history)) == ("complete", 4)
    assert {call.state for call in status.document.history} == {"complete"}


def test_a_process_that_joins_a_finished_run_computes_nothing(alone, tmp_path):
    source, expected = alone
    run_fake(source, tmp_path / "out", join=True)
    outcome = run_fake(source, tmp_path / "out", join=True)
    assert (outcome.state, outcome.computed, outcome.reused) == ("complete", (), N_UNITS)
    assert run_fake(source, tmp_path / "out").computed == ()
    assert data_bytes(tmp_path / "out") == expected


def test_a_plain_run_is_refused_while_processes_cooperate_and_the_other_way_round(alone, tmp_path):
    source, _ = alone
    folder = tmp_path / "out"
    folder.mkdir()
    me = replace(myself("soct run --join"), host="node7", slurm_job="12", slurm_task="3")
    with hold_together(folder), Membership(folder, me):
        with pytest.raises(LockedError, match=r"on node7 by .* Slurm job 12, task 3") as caught:
            run_fake(source, folder)
        assert "--join" in caught.value.hint
        assert read_status_of_nothing(folder)
    from soct.pipeline.together.lock import hold

    with hold(folder, "soct run --plain"), pytest.raises(LockedError, match="soct run --plain"):
        run_fake(source, folder, join=True)


def read_status_of_nothing(folder):
    return not (folder / "run.json").exists()


@pytest.mark.usefixtures("often")
def test_other_settings_are_refused_while_others_work_and_named(alone, tmp_path):
    source, _ = alone
    folder, gate = tmp_path / "out", tmp_path / "gate"
    changes = {"read.gate": str(gate)}
    first = threading.Thread(
        target=run_fake, args=(source, folder, changes), kwargs={"join": True, "cpus": 1}
    )
    first.start()
    wait_until(lambda: has_claim(folder, os.getpid()))
    with pytest.raises(LockedError, match=r"cut\.amount is 2 instead of 1"):
        run_fake(source, folder, {"cut.amount": 2}, join=True)
    # What changes no byte may differ.
    outcome = run_fake(source, folder, {"read.chatter": 7}, opening(gate, UnitFinished), join=True)
    assert outcome.state == "complete"
    first.join()
    assert run_fake(source, folder, {"cut.amount": 2}, join=True).state == "complete"


@pytest.mark.usefixtures("often")
def test_a_unit_that_fails_in_one_process_fails_in_all_and_is_tried_again_by_the_next_call(
    alone, tmp_path
):
    source, expected = alone
    folder = tmp_path / "out"
    seen = []
    outcomes = join(3, source, folder, {"read.fail_slice": 5}, listener=seen.append)
    assert {(o.state, o.exit_code) for o in outcomes} == {("failed", 5)}
    assert {f.unit for o in outcomes for f in o.failures} == {Unit("read", (5,))}
    assert {len(o.blocked) for o in outcomes} == {4}
    assert len([e for e in seen if isinstance(e, UnitFailed)]) == 3
    assert Counter(u for o in outcomes for u in o.computed).most_common(1)[0][1] == 1
    assert {u.state for u in read_status(folder).units} == {
        UnitState.DONE,
        UnitState.FAILED,
        UnitState.BLOCKED,
    }
    assert {o.state for o in join(2, source, folder)} == {"complete"}
    assert data_bytes(folder) == expected


@pytest.mark.usefixtures("often")
def test_damage_that_one_process_finds_is_mended_once(alone, tmp_path):
    source, expected = alone
    folder = tmp_path / "out"
    run_fake(source, folder)
    for unit in ("z02", "z04"):
        (folder / f"state/cut/{unit}.json").unlink()
    chunk = folder / "read/grid_z04.zarr/c/1"
    before = chunk.stat()
    chunk.write_bytes(b"x" * before.st_size)
    os.utime(chunk, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcomes = join(2, source, folder)
    assert {o.state for o in outcomes} == {"complete"}
    computed = Counter(u for o in outcomes for u in o.computed)
    assert computed[Unit("read", (4,))] == 1
    assert data_bytes(folder) == expected


def test_who_lost_its_claim_does_not_publish(alone, tmp_path, monkeypatch):
    source, expected = alone
    folder = tmp_path / "out"
    holds = Claims.holds
    lost = Unit("read", (2,))
    other = Membership(folder, replace(myself("the other"), host="node7", machine="another"))
    stolen = []

    def lose_one(self, unit):
        if unit == lost and not stolen:
            # Taken for dead, its claim goes to another process, which is still at work.
            stolen.append(unit)
            other.__enter__()
            self._path(unit).unlink()
            assert Claims(other).take(unit)
            timer = threading.Timer(1.5, give_back)
            timer.start()
        return holds(self, unit)

    def give_back():
        assert RecordStore(folder).read(lost) is None
        Claims(other).release_all()
        other.__exit__(None, None, None)

    monkeypatch.setattr(Claims, "holds", lose_one)
    seen = []
    outcome = run_fake(source, folder, listener=seen.append, join=True)
    assert outcome.state == "complete"
    assert any("taken over" in e.text for e in seen if isinstance(e, Notice))
    assert data_bytes(folder) == expected
    assert not left_over(folder)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_units_to_the_others(alone, tmp_path):
    source, expected = alone
    folder = tmp_path / "out"
    victim = start(source, folder, FOREVER)
    wait_until(lambda: list((folder / "state/claims/read").glob("*.json")))
    processes = [victim, *(start(source, folder) for _ in range(3))]
    wait_until(lambda: len(list((folder / "state/read").glob("*.json"))) == 3)
    assert has_claim(folder, victim.pid)
    victim.send_signal(signal.SIGKILL)
    codes, texts = ended(processes)
    assert codes == [-9, 0, 0, 0], texts
    assert data_bytes(folder) == expected
    assert not left_over(folder)
    history = read_status(folder).document.history
    assert sorted(call.state for call in history) == ["complete"] * 3 + ["running"]
    # The victim had done what comes before its first slice.
    assert sum(call.computed for call in history) == N_UNITS - 2


def can_separate():
    """Whether processes can be started that see only their own process numbers, as on another machine."""
    command = [*SEPARATE, "true"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


FOREVER = {"read.pause_s": 300}
SEPARATE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.slow
@pytest.mark.skipif(not can_separate(), reason="no process namespaces can be made here")
def test_what_a_machine_that_died_had_goes_to_the_others_when_it_gave_no_sign_of_life(
    alone, tmp_path
):
    source, expected = alone
    folder = tmp_path / "out"
    victim = start(source, folder, FOREVER, before=SEPARATE, SOCT_STALE_S="7")
    wait_until(lambda: list((folder / "state/claims/read").glob("*.json")))
    other = start(source, folder, before=SEPARATE, SOCT_STALE_S="7")
    wait_until(lambda: len(list((folder / "state/read").glob("*.json"))) == 3)
    victim.kill()
    killed = time.monotonic()
    codes, texts = ended([victim, other])
    assert codes == [-9, 0], texts
    assert time.monotonic() - killed > 3
    assert data_bytes(folder) == expected
    assert not left_over(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stopped_processes_say_call_me_again_and_the_next_ones_finish(alone, tmp_path, number):
    source, expected = alone
    folder, gate = tmp_path / "out", tmp_path / "gate"
    processes = [start(source, folder, {"read.gate": str(gate)}) for _ in range(2)]
    # Both: one that has not come so far does not listen to signals yet.
    wait_until(lambda: all(has_claim(folder, process.pid) for process in processes))
    for process in processes:
        process.send_signal(number)
        assert process.stderr.readline() == b"stopping\n"
    gate.touch()
    codes, texts = ended(processes)
    assert set(codes) == {75}, texts
    assert not left_over(folder)
    assert read_status(folder).state == "stopped"
    outcomes = join(2, source, folder)
    assert {o.state for o in outcomes} == {"complete"}
    assert data_bytes(folder) == expected


@pytest.mark.usefixtures("often")
def test_a_time_limit_ends_with_75_also_where_others_have_the_rest(alone, tmp_path, monkeypatch):
    source, _ = alone
    folder = tmp_path / "out"
    folder.mkdir()
    # A minute passes with every unit.
    ended = []
    clock = SimpleNamespace(monotonic=lambda: 60.0 * len(ended), time=time.time)
    monkeypatch.setattr("soct.pipeline.stopping.time", clock)

    def listen(event):
        if isinstance(event, UnitFinished):
            ended.append(event)

    me = replace(myself("soct run --join"), host="node7", machine="another")
    with hold_together(folder), Membership(folder, me) as other:
        for number in (1, 2, 4, 5):
            assert Claims(other).take(Unit("read", (number,)))
        resources = Resources(cpus=1, executor=ThreadPoolExecutor, max_runtime_s=90.0)
        outcome = run_fake(source, folder, None, listen, resources=resources, join=True)
        assert (outcome.exit_code, outcome.state) == (75, "stopped")
        assert {unit.step for unit in outcome.computed} == {"shifts", "generate_slice_config"}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("renamed", [False, True], ids=["", "under a new name"])
def test_status_tells_who_works_and_on_what(alone, tmp_path, monkeypatch, renamed):
    source, _ = alone
    folder = tmp_path / "out"
    monkeypatch.setattr("soct.pipeline.folder.progress.INTERVAL_S", 0.05)
    if renamed:
        agree = joined_run._join

        def taken_for_dead(prepared, planned, budget, claims):
            part = agree(prepared, planned, budget, claims)
            claims.members.path.unlink()
            claims.members.renew()
            return part

        monkeypatch.setattr(joined_run, "_join", taken_for_dead)
    gate = tmp_path / "gate"
    threads = threading.Thread(
        target=join, args=(2, source, folder, {"read.gate": str(gate)}), kwargs={"cpus": 1}
    )
    threads.start()

    def reading():
        if not (folder / "run.json").exists():
            return []
        running = [p.progress.running for p in read_status(folder).processes if p.progress]
        return [unit for units in running for unit in units if unit.step == "read"]

    try:
        wait_until(lambda: len(reading()) == 2)
        document = read_status(folder).as_document()
    finally:
        gate.touch()
        threads.join()
    assert document["state"] == "running"
    assert all(("~" in p["id"]) == renamed for p in document["processes"])
    running = [u["unit"] for p in document["processes"] for u in p["running"]]
    assert len(running) == len(set(running)) == 2
    assert {p["pid"] for p in document["processes"]} == {os.getpid()}
    json.dumps(document)
    assert read_status(folder).processes == ()


def test_who_comes_while_a_session_begins_keeps_its_name(tmp_path):
    """What dead processes left is swept; one that registered since the others were listed is alive."""
    folder = tmp_path / "out"
    first, late = (myself("soct run --join") for _ in range(2))
    dead = replace(first, id="dead.1.0", process_started=first.process_started - 100)
    with Membership(folder, first), Membership(folder, late):
        (folder / "state/processes/dead.1.0.json").write_text(json.dumps(asdict(dead)))
        members.sweep_processes(folder, keep=frozenset([first.id]))
        left = {p.stem for p in (folder / "state/processes").iterdir()}
    assert left == {first.id, late.id}


def test_a_unit_that_another_process_finished_is_told(alone, tmp_path, often):
    source, _ = alone
    seen = []
    outcomes = join(2, source, tmp_path / "out", cpus=1, listener=seen.append)
    told = [e for e in seen if isinstance(e, UnitAdopted)]
    assert len(told) == sum(o.elsewhere for o in outcomes) > 0


@pytest.mark.usefixtures("often")
def test_who_does_only_a_part_leaves_tables_and_report_to_those_who_do_the_rest(alone, tmp_path):
    source, expected = alone
    folder = tmp_path / "out"
    whole, gate = [], tmp_path / "gate"
    changes = {"read.gate": str(gate)}
    thread = threading.Thread(target=lambda: whole.extend(join(1, source, folder, changes)))
    thread.start()
    wait_until(lambda: (folder / "run.json").exists())
    listener, selection = opening(gate, RunPlanned), Selection(last="read")
    part = run_fake(source, folder, changes, listener, selection=selection, join=True)
    assert (part.exit_code, part.reports) == (0, False)
    thread.join()
    assert (whole[0].exit_code, whole[0].reports) == (0, True)
    assert data_bytes(folder) == expected


def test_when_all_is_over_a_run_is_complete_though_some_are_still_leaving(alone, tmp_path):
    source, _ = alone
    folder = tmp_path / "out"
    run_fake(source, folder, join=True)
    with Membership(folder, myself("leaves")):
        assert read_status(folder).state == "complete"


@pytest.mark.usefixtures("often")
def test_of_sixteen_that_start_together_one_writes_the_report(alone, tmp_path):
    source, expected = alone
    folder = tmp_path / "out"
    written, states = [], []

    def write():
        written.append(1)
        time.sleep(0.3)
        status = read_status(folder)
        states.append(status.state)
        states.extend({call.state for call in status.document.history})
        (folder / "sub-01_quality_report.html").touch()

    outcomes = join(16, source, folder, write_report=write)
    assert (len(written), states) == (1, ["complete", "complete"])
    assert [o.reports for o in outcomes].count(True) == 1
    computed = Counter(unit for o in outcomes for unit in o.computed)
    assert (len(computed), set(computed.values())) == (N_UNITS, {1})
    (folder / "sub-01_quality_report.html").unlink()
    assert data_bytes(folder) == expected


def test_many_that_join_a_finished_run_write_no_second_report(alone, tmp_path):
    source, _ = alone
    folder = tmp_path / "out"
    assert run_fake(source, folder, join=True).reports
    # Killed before it wrote the report: the next one does.
    assert run_fake(source, folder, join=True).reports
    (folder / "sub-01_quality_report.html").touch()
    assert not run_fake(source, folder, join=True).reports
    assert run_fake(source, folder, join=True, assess_digest="other").reports


def test_a_record_whose_outputs_are_not_seen_here_yet_is_waited_for(alone, tmp_path, monkeypatch):
    """On a network file system names that were not there are remembered for a while."""
    source, _ = alone
    folder = tmp_path / "out"
    run_fake(source, folder)
    unit = Unit("read", (2,))
    record, output = folder / "state/read/z02.json", folder / "read/grid_z02.zarr"
    content = record.read_bytes()
    record.unlink()
    prepared = prepare(make_request(source, folder, join=True))
    with Membership(folder, myself("here")) as members:
        others = Together(Claims(members), prepared.store, prepared.plan(), "session", 0)
        assert others.claim(unit) is Claimed.HERE
        others.release(unit)
        record.write_bytes(content)
        output.rename(tmp_path / "hidden")
        assert others.claim(unit) is Claimed.ELSEWHERE
        assert list(others.look([unit])) == []
        (tmp_path / "hidden").rename(output)
        others._next_look = 0.0
        ((found, seen),) = others.look([unit])
        assert (found, seen.unit) == (unit, unit)
        # What never appears is computed again.
        output.rename(tmp_path / "hidden")
        monkeypatch.setattr("soct.pipeline.together.cooperation.VISIBLE_S", 0.0)
        assert others.claim(unit) is Claimed.HERE
