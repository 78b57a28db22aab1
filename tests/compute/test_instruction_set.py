"""All machines of a level use the same instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soct.compute import instruction_set

_HASWELL = "fpu sse sse2 ssse3 sse4_1 sse4_2 cx16 lahf_lm popcnt avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
_ICE_LAKE = f"{_HASWELL} avx512f avx512dq avx512bw avx512vl"


def flags(text: str) -> frozenset[str]:
    return frozenset(text.split())


def test_processors_of_different_makers_and_years_get_the_same_instructions():
    old, new = (instruction_set.variables_for(flags(text)) for text in (_HASWELL, _ICE_LAKE))
    assert old["NUMBA_CPU_NAME"] == new["NUMBA_CPU_NAME"] == "x86-64-v3"
    assert old["NUMBA_CPU_FEATURES"] == new["NUMBA_CPU_FEATURES"]
    assert old["OPENBLAS_CORETYPE"] == new["OPENBLAS_CORETYPE"]


def test_numpy_is_kept_from_wider_registers_where_the_processor_has_them():
    assert "NPY_DISABLE_CPU_FEATURES" not in instruction_set.variables_for(flags(_HASWELL))
    if instruction_set._numpy_version() >= (2, 4):
        wide = instruction_set.variables_for(flags(_ICE_LAKE))["NPY_DISABLE_CPU_FEATURES"].split()
        from numpy._core._multiarray_umath import __cpu_dispatch__ as built_in

        if "X86_V3" in built_in:
            assert set(wide) == set(built_in) - {"X86_V3"}, "all but this level is disabled"


@pytest.mark.parametrize("missing", ["avx2", "fma", "movbe"])
def test_a_processor_that_lacks_a_member_of_the_level_uses_its_own(missing):
    assert not instruction_set.variables_for(flags(_HASWELL) - {missing})


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    instruction_set.fix({"NUMBA_CPU_NAME": instruction_set.LEVEL})
    assert os.environ["NUMBA_CPU_NAME"] == "generic"
    level, notice = instruction_set.describe()
    assert level == "generic"
    assert notice is not None


def test_an_older_processor_is_told_of(monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.setattr(instruction_set, "choose", dict)
    monkeypatch.setattr(instruction_set.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(instruction_set.sys, "platform", "linux")
    level, notice = instruction_set.describe()
    assert level.startswith("this processor's own")
    assert notice is not None
    assert "older than x86-64-v3" in notice


def test_nothing_is_set_where_the_processor_is_of_another_kind(monkeypatch):
    monkeypatch.setattr(instruction_set.platform, "machine", lambda: "aarch64")
    assert not instruction_set.variables_for(instruction_set._read_flags())


def test_only_the_beginning_of_the_list_of_processors_is_read(tmp_path: Path, monkeypatch):
    one = f"processor : 0\nflags\t\t: {_HASWELL}\n\n"
    (tmp_path / "cpuinfo").write_text(one * 2000)
    monkeypatch.setattr(instruction_set, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(instruction_set.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(instruction_set.sys, "platform", "linux")
    assert instruction_set._read_flags() == flags(_HASWELL)


_WHAT_A_WORKER_COMPILES_FOR = """
from soct.compute import caches, threads
caches.prepare()
from soct.pipeline.workers.executors import LocalExecutor
import operator

def main():
    from numba.core.registry import cpu_target
    mine = cpu_target.target_context.codegen().magic_tuple()[1:]
    pool = LocalExecutor(1, threads.worker_environment(1), ("soct.compute.numba_ready",))
    code = "__import__('numba.core.registry').core.registry.cpu_target.target_context.codegen().magic_tuple()[1:]"
    print(mine == pool.submit(eval, code).result() , mine[0])
    pool.shutdown()

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not instruction_set.choose(), reason="no processor of the level")
def test_worker_processes_compile_for_what_the_main_process_does(tmp_path: Path):
    (tmp_path / "ask.py").write_text(_WHAT_A_WORKER_COMPILES_FOR)
    kept = {k: v for k, v in os.environ.items() if k not in instruction_set.choose()}
    done = subprocess.run(
        [sys.executable, tmp_path / "ask.py"],
        env=kept | {"SOCT_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["True", "x86-64-v3"], done.stderr
