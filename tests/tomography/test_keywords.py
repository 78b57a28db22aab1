"""One dictionary of parameters serves all functions; a misspelt name is told with the nearest."""

import numpy as np
import pytest

from soct.tomography.keywords import check_keywords


def test_a_function_gets_its_own_parameters_and_passes_over_those_of_the_others():
    given = {"pixtol": 0.1, "freqcutoff": 0.2, "silent": True}
    assert check_keywords("align", given, ("pixtol", "maxit")) == {"pixtol": 0.1}


def test_a_misspelt_name_is_told_with_the_nearest():
    with pytest.raises(
        TypeError, match=r"align\(\) got an unknown parameter 'maxiter'; did you mean 'maxit'"
    ):
        check_keywords("align", {"maxiter": 4}, ("maxit",))
    with pytest.raises(TypeError, match="it takes maxit, pixtol"):
        check_keywords("align", {"zzz": 4}, ("pixtol", "maxit"))


def test_complex_projections_are_refused_where_only_real_ones_make_sense():
    from soct.tomography import (
        alignprojections_horizontal,
        alignprojections_vertical,
        compute_aligned_sino,
        estimate_rot_axis,
    )

    values = np.ones((12, 8, 16), np.complex64)
    theta = np.arange(12) * 15.0
    for call in (
        lambda: alignprojections_horizontal(values[:, 0].T, theta, np.zeros((2, 12))),
        lambda: alignprojections_vertical(values, np.zeros((2, 12))),
        lambda: estimate_rot_axis(values, theta),
    ):
        with pytest.raises(ValueError, match="must be real"):
            call()
    assert compute_aligned_sino(values[:, 0].T, np.zeros(12)).dtype == np.complex64
