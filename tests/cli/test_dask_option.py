"""`--dask` and the site's `dask`: what may stand there, and what goes first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from soct.cli.dask_step import choose_dask
from soct.errors import ConfigurationError, ExitCode, UsageError
from soct.pipeline.profiles.quantities import parse_dask
from soct.pipeline.sites.site_file import load_site


@pytest.mark.parametrize(
    "text", ["local", "slurm", "off", "tcp://10.0.0.5:8786", "tls://node7:1", "a b/sched.json"]
)
def test_the_forms_of_a_cluster_are_taken(text):
    assert parse_dask(f" {text} ") == text


@pytest.mark.parametrize(
    "text", ["", "10.0.0.5:8786", "tcp://node7", "http://x:1", "Local", "x.txt"]
)
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"FILE\.json, local, slurm or off"):
        parse_dask(text)


def test_a_site_file_is_held_to_the_same_and_the_command_line_goes_first(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("dask: tcp://10.0.0.5:8786\ndask_wait: 2h\n")
    loaded = load_site(site, {})
    assert (loaded.dask, loaded.dask_wait) == ("tcp://10.0.0.5:8786", 7200.0)
    assert load_site(site, {}, {"dask": "off"}).dask == "off"
    site.write_text("dask: 10.0.0.5\n")
    with pytest.raises(ConfigurationError, match=r"site\.yaml:1: dask"):
        load_site(site, {})


def test_join_leaves_the_cluster_of_a_site_alone_and_does_not_go_with_the_option():
    assert choose_dask("local", None, join=True) is None
    assert choose_dask("local", "local", join=False) == "local"
    assert choose_dask("off", "off", join=True) is None
    with pytest.raises(UsageError, match="do not go together"):
        choose_dask("local", "local", join=True)


def test_neither_the_command_line_nor_the_runner_imports_dask():
    check = "import sys, soct.cli.app, soct.pipeline.runner; print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_scheduler_file_is_told_before_the_input_is_opened(soct, tmp_path):
    ended = soct("run", "no-input", "out", "--dask", "missing.json")
    assert ended.code == ExitCode.USAGE
    assert "There is no such Dask scheduler file" in ended.err
    assert not (tmp_path / "out").exists()
