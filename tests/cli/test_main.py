"""The boundary: exit codes, crash files, signals, closed streams, escape codes."""

from __future__ import annotations

import errno
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from soct import errors
from soct.cli import crash
from soct.cli.app import run_app
from soct.cli.main import Terminated, run_guarded
from soct.cli.terminal import data, words, words_of_error
from soct.errors import ExitCode
from soct.steps.registry import STEP_IDS
from tests.cli.conftest import Run

HEAVY = (
    "numba", "zarr", "SimpleITK", "scipy", "skimage", "matplotlib", "cupy", "tensorstore", "pandas",
    "numpy", "pydantic", "jinja2", "PIL",
)  # fmt: skip


@pytest.fixture
def soct(soct_from_the_start: Run) -> Run:
    """How it starts is what is tried here."""
    return soct_from_the_start


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.ConfigurationError, 3),
        (errors.InputError, 4),
        (errors.StepError, 5),
        (errors.QualityError, 6),
        (errors.LockedError, 7),
        (errors.ResourceError, 8),
        (errors.NewerStateError, 9),
    ],
)
def test_an_error_of_the_user_is_told_without_a_traceback(
    kind: type[errors.UserError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise kind("What is wrong.", file="a\nb\x1b[1m", expected="x", found="y", hint="do z")

    assert run_guarded(fail, []) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "error: What is wrong.",
        "  file:     a\\nb\\x1b[1m",
        "  expected: x",
        "  found:    y",
        "  to do:    do z",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (Terminated(), 143), (BrokenPipeError(), 0)],
)
def test_signals_and_a_reader_that_left_have_their_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soct.cli.main.silence", lambda stream: None)

    def fail() -> int:
        raise error

    assert run_guarded(fail, []) == code


def test_a_bug_leaves_a_crash_file_without_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home" / "somebody"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)

    def fail() -> int:
        raise ZeroDivisionError(f"in {home}/data")

    assert run_guarded(fail, ["run", f"{home}/data", "out"]) == ExitCode.INTERNAL
    (file,) = home.glob("soct-crash-*.txt")
    text = file.read_text()
    assert "ZeroDivisionError: in ~/data" in text
    assert "command: soct run ~/data out" in text
    assert "Traceback" in text
    assert "numpy: " in text
    assert str(home) not in text
    told = capsys.readouterr().err
    assert str(file) in told
    assert "Traceback" not in told


def test_without_a_writable_folder_there_is_no_crash_file_and_no_second_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr("soct.cli.crash.Path.cwd", gone)
    monkeypatch.setattr("tempfile.gettempdir", gone)
    assert crash.write_crash_file(ValueError("x"), []) is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_its_code(number: signal.Signals, code: int) -> None:
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that: undo it.
    script = (
        "import signal, time, soct.cli.main as m\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def work(given):\n    print('ready', flush=True)\n    time.sleep(60)\n    return 0\n"
        "m._run_app = work\nm.main([])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in told


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(argument: str) -> None:
    script = (
        "import sys\nfrom soct.cli.main import main\ntry:\n    main([sys.argv[1]])\n"
        "finally:\n    print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert not set(HEAVY) & set(done.stderr.split())


def test_help_takes_less_than_half_a_second_of_processor_time(soct: Run) -> None:
    # Processor time, because the wall clock measures what else the machine does.
    def spend() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert soct("--help", env={"PYTHONDONTWRITEBYTECODE": ""}).code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The first writes bytecode, and others cost more while a machine does other things: what counts is the least.
    assert any(spend() < 0.5 for _ in range(8))


def test_help_lists_every_command_and_every_exit_code(soct: Run) -> None:
    page = soct("--help").out
    for code in ExitCode:
        assert f" {int(code)} " in page
    for command in ("run", "plan", "status", "report", "demo", "simulate", "evaluate", "profiles",
                    "doctor", "create-mosaic-grid", "resample", "stitch"):  # fmt: skip
        assert f"\n  {command} " in page
    assert page.count("\n  ") >= len(STEP_IDS) + 9 + len(ExitCode)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["--nope"],
        ["run"],
        ["run", "in"],
        ["run", "in", "out", "--slices", "3-1"],
        ["run", "in", "out", "--max-runtime", "soon"],
        ["run", "in", "out", "--memory", "much"],
        ["run", "in", "out", "--gpu", "maybe"],
        ["run", "in", "out", "--cpus", "0"],
        ["run", "in", "out", "--unit", "a"],
        ["status"],
        ["evaluate", "one"],
        ["simulate", "out", "--overlap", "x"],
        ["simulate", "out", "--preset", "nope"],
        ["profiles", "nope"],
    ],
)
def test_a_command_line_that_means_nothing_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(lambda: run_app(arguments), arguments) == ExitCode.USAGE
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert "Traceback" not in told.err
    assert told.out == ""


def on_a_terminal(arguments: list[str], env: dict[str, str]) -> bytes:
    """Return what a process writes to a terminal."""
    ours, theirs = pty.openpty()
    code = "from soct.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **env},
    ) as process:  # fmt: skip
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end was closed
                break
            if not part:
                break
            parts.append(part)
        process.wait(timeout=120)
    os.close(ours)
    return b"".join(parts)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]], ids=" ".join)
@pytest.mark.parametrize(
    "env",
    [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}, {"TERM": "dumb", "FORCE_COLOR": "1"}],
    ids=["NO_COLOR", "dumb", "dumb and FORCE_COLOR"],
)  # fmt: skip
def test_a_plain_terminal_gets_no_escape_code(arguments: list[str], env: dict[str, str]) -> None:
    written = on_a_terminal(arguments, {**env, "COLUMNS": "20"})
    assert b"\x1b" not in written
    assert b"Traceback" not in written
    assert len(written) > 50


def test_a_terminal_that_can_gets_headings_in_bold() -> None:
    env = {"TERM": "xterm-256color", "NO_COLOR": ""}
    assert b"\x1b[1mThe job:" in on_a_terminal(["--help"], env)


@pytest.mark.parametrize("columns", ["20", "1", "nonsense"])
def test_any_width_of_the_terminal_is_survived(soct: Run, columns: str) -> None:
    for arguments in (["--help"], ["run", "--help"]):
        ended = soct(*arguments, env={"COLUMNS": columns})
        assert ended.code == 0
        assert "\x1b" not in ended.out
    if columns == "20":
        assert max(map(len, soct("--help", env={"COLUMNS": columns}).out.splitlines())) <= 30


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["doctor", "--json"]], ids=" ".join
)
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    code = "from soct.cli.main import main; main()"
    ours, theirs = os.pipe()
    os.close(ours)
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=theirs, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        os.close(theirs)
        _, told = process.communicate(timeout=240)
    assert (process.returncode, told) == (0, "")


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from soct.cli.main import main; main()' profiles list >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_printed_of_a_name_is_inert(capsys: pytest.CaptureFixture[str]) -> None:
    data("a path\nin two lines")
    words("plain \x1b[31m red \u202e right \x07 é 脑")
    words(*words_of_error(errors.InputError("bad\nsecond line", file="x\ny")))
    told = capsys.readouterr()
    assert told.out == "a path\\nin two lines\n"
    assert told.err.splitlines() == [
        "plain \\x1b[31m red \\u202e right \\x07 é 脑",
        "error: bad",
        "second line",
        "  file:     x\\ny",
    ]


def test_a_stream_that_knows_only_ascii_is_survived(soct: Run) -> None:
    ended = soct("run", "eingabe-é-\udcff", "out", "--profile", "é.yaml",
                 env={"PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert ended.code == ExitCode.CONFIGURATION
    assert "\\xe9.yaml" in ended.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_a_callback_of_the_compiler_swallows_arrives_all_the_same(number, code):
    # As above: Ctrl-C may be ignored here.
    script = f"""
import ctypes, os, signal, time
from soct.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)

def callback():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0)

def work(arguments):
    ctypes.CFUNCTYPE(None)(callback)()
    time.sleep(20)
    return 0

main._run_app = work
main.main([])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == code
    assert "ignored" not in done.stderr


_BUILD_EVERYTHING = """
import sys
from soct.cli.app import _build_tool
from soct.cli.command_index import read_step_index, read_tool_index
from soct.cli.step_command import build_step_command
for entry in read_tool_index().values():
    _build_tool(entry)
for entry in read_step_index().values():
    build_step_command(entry.id)
print("numba" in sys.modules)
"""


def test_no_command_loads_the_compiler_before_it_chose_where_kernels_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", _BUILD_EVERYTHING], capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip() == "False", done.stderr
