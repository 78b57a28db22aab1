"""The rotation axis picked by eye: a window on a virtual display, and a widget in a real kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, UsageError
from soct.simulate.projections import Ellipsoid, draw_phantom, project_phantom
from soct.tools import axis_picker
from soct.tools.axis_preview import PickCancelledError, prepare
from soct.tools.axis_window import tk_is_here

AXIS = 52.3
COLS = 100


@pytest.fixture(scope="module")
def theta():
    return np.radians(np.arange(0, 180, 3.0))


@pytest.fixture(scope="module")
def stack(theta):
    none = np.zeros((2, len(theta)))
    return project_phantom(draw_phantom(), theta, 12, COLS, AXIS, none)


@pytest.fixture(scope="module")
def xvfb() -> Iterator[str]:
    """A display of its own, which no other test has."""
    if not tk_is_here():
        pytest.skip("this Python has no tkinter")
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed (Debian: apt-get install xvfb)")
    read, write = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(write), "-screen", "0", "1024x900x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as told:
            number = told.readline().strip()
        if not number:
            pytest.skip("Xvfb did not start")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(120)


@pytest.fixture
def display(xvfb, monkeypatch):
    monkeypatch.setenv("DISPLAY", xvfb)
    return xvfb


@pytest.fixture
def keys(display, monkeypatch):
    """Press keys in the next window that opens, one after the other; what was shown meanwhile is returned."""
    from soct.tools import axis_window

    seen: list[tuple[float, str]] = []

    def press(*names: str) -> list[tuple[float, str]]:
        class Pressed(axis_window.AxisWindow):
            def __init__(self, *given: object) -> None:
                super().__init__(*given)  # type: ignore[arg-type]
                self._left = list(names)
                self.root.after(50, self._press)

            def _press(self) -> None:
                self.root.update_idletasks()
                if self.root.focus_get() is None:
                    # Keys go where the focus is, which a busy server grants late.
                    self.root.focus_force()
                    self.root.after(50, self._press)
                    return
                seen.append((self.axis, self.view))
                if self._left:
                    # Scheduled first: the last key closes the window.
                    if len(self._left) > 1:
                        self.root.after(60, self._press)
                    self.root.event_generate(f"<{self._left.pop(0)}>")

        monkeypatch.setattr(axis_window, "AxisWindow", Pressed)
        return seen

    return press


def test_keys_move_the_axis_and_enter_takes_it(stack, theta, keys):
    keys("Right", "Shift-Right", "Shift-Right", "Left", "Left", "Return")
    assert axis_picker.pick_axis(stack, theta, 50.0) == pytest.approx(51.9)


def test_the_estimate_takes_the_picker_and_shows_its_own_value_first(stack, theta, keys):
    from soct.tomography import estimate_rot_axis

    seen = keys("Shift-Left", "Return")
    found = estimate_rot_axis(stack, theta, theta_unit="rad", picker=axis_picker.pick_axis)
    assert seen[0][0] == pytest.approx(AXIS, abs=0.05)
    assert found == pytest.approx(seen[0][0] - 1)


def test_escape_cancels_and_ends_as_an_interruption(stack, theta, keys):
    keys("Right", "Escape")
    with pytest.raises(PickCancelledError) as caught:
        axis_picker.pick_axis(stack, theta, 50.0)
    assert caught.value.exit_code == ExitCode.INTERRUPTED


def test_the_command_prints_the_picked_axis_or_ends_as_an_interruption(
    stack, theta, keys, tmp_path, capsys
):
    np.save(tmp_path / "stack.npy", stack)
    words = ["tomo", "rotation-axis", str(tmp_path / "stack.npy"), "--span", "180", "--pick"]

    def soct() -> tuple[int, str]:
        code = run_guarded(lambda: run_app(words), words)
        return code, capsys.readouterr().out.strip()

    seen = keys("Shift-Right", "Return")
    code, told = soct()
    assert code == ExitCode.OK
    assert seen[0][0] == pytest.approx(AXIS, abs=0.05)
    assert float(told) == pytest.approx(seen[0][0] + 1, abs=0.006)
    keys("Escape")
    assert soct() == (ExitCode.INTERRUPTED, "")


def test_a_key_changes_the_view_where_there_is_an_opposite_pair(theta, keys):
    whole = np.radians(np.arange(0, 360, 6.0))
    around = project_phantom(draw_phantom(), whole, 12, COLS, AXIS, np.zeros((2, 60)))
    seen = keys("v", "v", "Return")
    axis_picker.pick_axis(around, whole)
    assert [view for _, view in seen] == ["slice", "pair", "slice"]
    assert seen[0][0] == COLS // 2


def test_the_slider_moves_the_axis(stack, theta, display):
    from soct.tools.axis_window import AxisWindow

    window = AxisWindow(prepare(stack, theta), 50.0)
    window.root.update()
    window.scale.set(60.0)
    window.root.update()
    assert window.axis == 60.0
    window.accept()
    assert window.result() == 60.0


def test_the_axis_stays_on_the_detector(stack, theta, display):
    from soct.tools.axis_window import AxisWindow

    window = AxisWindow(prepare(stack, theta), 500.0)
    window.root.update()
    assert window.axis == COLS - 1
    window.cancel()


def test_without_a_display_one_error_says_what_to_do(stack, theta, monkeypatch):
    if not tk_is_here():
        pytest.skip("this Python has no tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UsageError, match="no display") as caught:
        axis_picker.pick_axis(stack, theta, 50.0)
    assert "--axis" in (caught.value.hint or "")
    assert "axis_widget" in (caught.value.expected or "")


def test_a_bead_is_a_point_at_the_true_axis_alone(theta):
    bead = (Ellipsoid((0.4, 0.2, 0.0), (0.06, 0.06, 0.5), 0.0, 1.0),)
    scan = project_phantom(bead, theta, 1, COLS, AXIS, np.zeros((2, len(theta))))

    def pixels(axis: float) -> int:
        return int((prepare(scan, theta).slice_at(axis) > 128).sum())

    tried = AXIS + np.arange(-4, 5)
    assert tried[int(np.argmin([pixels(a) for a in tried]))] == AXIS


def test_opposite_projections_agree_at_the_true_axis():
    whole = np.radians(np.arange(0, 360, 6.0))
    around = project_phantom(draw_phantom(), whole, 12, COLS, AXIS, np.zeros((2, 60)))
    preview = prepare(around, whole)

    def difference(axis: float) -> int:
        drawn = preview.pair_at(axis).astype(int)
        return int(np.abs(drawn[..., 0] - drawn[..., 1]).max())

    assert difference(AXIS) <= 25
    assert difference(AXIS + 2) > 60


def test_one_sinogram_is_enough(stack, theta):
    preview = prepare(stack[:, 6].T, theta)
    assert preview.views == ("slice",)
    with pytest.raises(UsageError, match="half a turn"):
        preview.pair_at(50.0)
    with pytest.raises(ValueError, match="no stack"):
        prepare(stack[:5], theta)


@pytest.mark.slow
def test_in_a_notebook_the_slider_is_moved_and_the_value_read():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipywidgets")
    pytest.importorskip("ipykernel")
    cells = [
        f"""
        import numpy as np
        from soct.simulate.projections import draw_phantom, project_phantom
        from soct.tools.axis_picker import axis_widget, pick_axis
        theta = np.radians(np.arange(0, 180, 6.0))
        stack = project_phantom(draw_phantom(), theta, 8, {COLS}, {AXIS}, np.zeros((2, 30)))
        widget = axis_widget(stack, theta, 50.0)
        widget
        """,
        "before = bytes(widget.image.value)\nseen = []\nwidget.observe_axis(seen.append)",
        f"widget.slider.value = {AXIS}",
        "assert bytes(widget.image.value) != before and before.startswith(b'\\x89PNG')\nprint(widget.value, seen)",
        """
        try:
            pick_axis(stack, theta, 50.0)
        except Exception as error:
            print(type(error).__name__, error)
        """,
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(textwrap.dedent(text).strip()) for text in cells]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": ""}
    client = nbclient.NotebookClient(
        notebook, timeout=240, startup_timeout=240, kernel_name="python3"
    )
    done = client.execute()
    assert "application/vnd.jupyter.widget-view+json" in str(done.cells[0].outputs)
    assert f"{AXIS} [{AXIS}]" in str(done.cells[3].outputs)
    assert "UsageError" in str(done.cells[4].outputs)
    assert "axis_widget" in str(done.cells[4].outputs)


def test_without_ipywidgets_an_error_names_the_extra(stack, theta, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "soct.tools.axis_widget", raising=False)
    with pytest.raises(UsageError, match="ipywidgets") as caught:
        axis_picker.axis_widget(stack, theta)
    assert "viewer" in (caught.value.hint or "")
