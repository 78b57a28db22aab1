"""The correlation of Fourier shells: where two noisy copies of a known texture part, and what one copy tells of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.tomography import ShellCorrelation, fourier_shell_correlation
from soct.tomography.noise_floor import correlation_of_one, find_noise_floor
from soct.tomography.shell_correlation import Shells, thresholds

SHAPE = (48, 80, 80)
VOXEL = (20.0, 10.0, 10.0)
HALF_BIT = 0.2071 / 1.2071


def texture(sigma_um, shape=SHAPE, voxel=VOXEL, seed=1):
    """White noise blurred by a Gaussian of known width in micrometres, of unit variance."""
    rng = np.random.default_rng(seed)
    blurred = ndi.gaussian_filter(
        rng.standard_normal(shape), sigma_um / np.asarray(voxel), mode="wrap"
    )
    return blurred / blurred.std()


def noise(share, shape=SHAPE, seed=2):
    return share * np.random.default_rng(seed).standard_normal(shape)


def expected_um(sigma_um, share, shape=SHAPE, voxel=VOXEL):
    """Length at which a signal of the texture's spectrum and white noise correlate by half a bit."""
    along = [np.fft.fftfreq(n, d) for n, d in zip(shape, voxel, strict=True)]
    square = sum(g**2 for g in np.meshgrid(*along, indexing="ij"))
    mean = np.exp(-4 * np.pi**2 * sigma_um**2 * square).mean()
    snr = HALF_BIT / (1 - HALF_BIT)
    return 2 * np.pi * sigma_um / np.sqrt(-np.log(snr * share**2 * mean))


def power_of(volume, part, voxel=VOXEL):
    shells = Shells(volume.shape, voxel, part=part)
    power = np.abs(shells.spectrum(volume)) ** 2
    return shells, shells.sums(power) / shells.sums(np.ones(power.shape))


def test_an_array_with_itself_correlates_fully_and_with_noise_not_at_all():
    a, b = noise(1.0, seed=3), noise(1.0, seed=4)
    same = fourier_shell_correlation(a, a)
    np.testing.assert_allclose(same.correlation, 1)
    assert not any(c.is_crossed for c in same.crossings.values())
    assert same.resolution("1/7") == pytest.approx(2, rel=0.05)
    assert "never falls below" in same.notices[0]
    other = fourier_shell_correlation(a, b)
    told = other.counts > 30
    assert (np.abs(other.correlation[told]) < 5 / np.sqrt(other.counts[told])).all()
    assert np.isnan(other.resolution())
    assert "nothing in common" in other.notices[0]


def test_brightness_and_contrast_do_not_matter():
    a, b = texture(20) + noise(0.5), texture(20) + noise(0.5, seed=5)
    one, two = fourier_shell_correlation(a, b), fourier_shell_correlation(7 * a + 100, b - 3)
    np.testing.assert_allclose(one.correlation, two.correlation, atol=1e-9)


@pytest.mark.parametrize("part", ["all", "along", "across"])
@pytest.mark.parametrize(("sigma_um", "share"), [(20, 0.5), (30, 0.2), (30, 1.0)])
def test_the_resolution_is_that_of_closed_form_in_anisotropic_voxels(part, sigma_um, share):
    signal = texture(sigma_um)
    found = fourier_shell_correlation(
        signal + noise(share), signal + noise(share, seed=5), voxel_size=VOXEL, part=part
    )
    assert found.resolution() == pytest.approx(expected_um(sigma_um, share), rel=0.12)


def test_rings_of_images_are_as_good_as_shells():
    shape, voxel = (256, 256), (5.0, 5.0)
    signal = texture(15, shape, voxel)
    found = fourier_shell_correlation(
        signal + noise(0.5, shape), signal + noise(0.5, shape, 5), voxel_size=5.0
    )
    assert found.resolution() == pytest.approx(expected_um(15, 0.5, shape, voxel), rel=0.08)


def test_what_differs_by_direction_is_told_by_direction():
    rng = np.random.default_rng(1)
    signal = ndi.gaussian_filter(rng.standard_normal((64, 64, 64)), (3, 1.5, 1.5), mode="wrap")
    signal /= signal.std()
    pair = [signal + noise(0.5, signal.shape, seed) for seed in (2, 5)]
    along, across = (
        fourier_shell_correlation(*pair, part=p, cone_deg=20).resolution()
        for p in ("along", "across")
    )
    assert 1.6 < along / across < 2.4


def test_the_thresholds_are_those_of_half_a_bit_and_one():
    limits = thresholds(np.array([1.0, 100.0, 1e12]))
    np.testing.assert_allclose(limits["half-bit"][[0, 2]], [1.0, HALF_BIT], atol=1e-5)
    np.testing.assert_allclose(limits["one-bit"][[0, 2]], [1.0, 1 / 3], atol=1e-5)
    assert limits["half-bit"][1] == pytest.approx((0.2071 + 0.19102) / (1.2071 + 0.09102))


def test_the_counts_are_of_independent_values():
    shells = Shells((32, 32, 32), window="none")
    radius_count = 4 / 3 * np.pi * 16**3
    assert shells.counts.sum() == pytest.approx(radius_count, rel=0.05)
    assert Shells((32, 32, 32), window="hann").counts.sum() < 0.4 * radius_count
    # The scatter of the correlation of pure noise is what the counts say.
    found = [fourier_shell_correlation(noise(1, seed=k), noise(1, seed=100 + k)) for k in range(12)]
    scatter = np.std([f.correlation for f in found], axis=0)[5:] * np.sqrt(found[0].counts[5:])
    assert np.median(scatter) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("window", ["hann", "tukey"])
def test_edges_that_do_not_match_leave_no_trace(window):
    slope = np.linspace(0, 50, SHAPE[2])
    a, b = noise(1.0, seed=3) + slope, noise(1.0, seed=4) + slope
    high = slice(len(fourier_shell_correlation(a, b).correlation) // 2, None)
    faded = fourier_shell_correlation(a, b, window=window).correlation[high]
    hard = fourier_shell_correlation(a, b, window="none").correlation[high]
    assert np.abs(faded).mean() < 0.1 < np.abs(hard).mean()


def test_the_result_cannot_be_changed_and_is_whole():
    a = texture(20)
    found = fourier_shell_correlation(a + noise(1), a + noise(1, seed=9), voxel_size=VOXEL)
    assert isinstance(found, ShellCorrelation)
    with pytest.raises(AttributeError):
        found.correlation = None  # type: ignore[misc]
    assert set(found.crossings) == set(found.thresholds) == {"half-bit", "one-bit", "1/7"}
    assert found.resolution("one-bit") > found.resolution("half-bit") > found.resolution("1/7")


def test_what_cannot_be_compared_is_refused():
    a = noise(1.0)
    for bad, words in (
        (a[:-1], "differ in shape"), (a[0, 0], "y, x"), (a + 1j, "real"), (a * np.nan, "finite"), (a * 0, "no contrast"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            fourier_shell_correlation(a, bad)
    for options in ({"window": "boxcar"}, {"part": "up"}, {"axis": 3}, {"cone_deg": 0}, {"voxel_size": -1}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            fourier_shell_correlation(a, a, **options)


@pytest.mark.parametrize("part", ["along", "across"])
@pytest.mark.parametrize(("sigma_um", "share"), [(30, 0.3), (30, 1.0), (45, 0.5)])
def test_one_volume_tells_what_a_second_would(part, sigma_um, share):
    signal = texture(sigma_um)
    first = signal + noise(share)
    two = fourier_shell_correlation(
        first, signal + noise(share, seed=5), voxel_size=VOXEL, part=part
    )
    shells, power = power_of(first, part)
    one = correlation_of_one(shells.frequencies, power, shells.counts)
    assert one.resolution() == pytest.approx(two.resolution(), rel=0.12)
    assert one.notices == ()


def test_noise_of_neighbours_alike_is_noticed_and_with_its_spectrum_known_is_no_harm():
    signal = texture(45)
    first, alike = (ndi.shift(signal + noise(1.0), (0, 0.5, 0.5), order=1), noise(1.0, seed=8))
    shells, power = power_of(first, "across")
    plain = correlation_of_one(shells.frequencies, power, shells.counts)
    assert any("correlated" in n for n in plain.notices)
    _, shape = power_of(ndi.shift(alike, (0, 0.5, 0.5), order=1), "across")
    told = correlation_of_one(shells.frequencies, power, shells.counts, shape)
    true = expected_um(45, 1.0)
    assert plain.resolution() < 0.7 * true
    assert told.resolution() == pytest.approx(true, rel=0.15)


def test_detail_as_fine_as_the_voxels_has_no_floor():
    shells, power = power_of(texture(8) + noise(0.05), "across")
    assert not find_noise_floor(shells.frequencies, power, shells.counts).is_level
