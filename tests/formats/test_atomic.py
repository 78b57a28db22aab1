import io

import numpy as np
import pytest
from PIL import Image

from soct.formats.atomic import publish, write_text
from soct.formats.images import encode_png, to_grey, write_png


def write_half_and_close(file, folder):
    file.write(b"half")
    file.flush()
    assert len(list(folder.iterdir())) == 2
    raise OSError("closed")


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "f", "old")
    with pytest.raises(OSError, match="closed"), publish(tmp_path / "f") as file:
        write_half_and_close(file, tmp_path)
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("name", ["n" * 255, "-x", "new\nline", "é" * 127])
def test_any_legal_name_can_be_published(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"


def test_a_preview_is_inert_to_values_that_are_not_finite(tmp_path):
    plane = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    plane[0, 0], plane[1, 1] = np.nan, np.inf
    grey = to_grey(plane, (0, 1))
    assert grey[2, 3] == 255
    assert grey[0, 0] == grey[1, 1] == 0
    assert to_grey(np.full((2, 2), np.nan)).max() == 0
    assert to_grey(np.ones((2, 2))).max() == 0
    write_png(tmp_path / "p.png", grey)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(grey)))), grey)
    assert (tmp_path / "p.png").read_bytes() == encode_png(grey)
