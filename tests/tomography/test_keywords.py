"""One dictionary of parameters serves all functions; a misspelt name is told with the nearest."""

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
