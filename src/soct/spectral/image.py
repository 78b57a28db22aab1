"""Images as arrays of brightness, with what alignment needs of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.space import FloatArray
from soct.spectral.affine import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence

    # An Image does everything that an array does.
    _Base = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
else:
    _Base = np.ndarray

_FULL_SCALE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


def as_plane(data: ArrayLike) -> FloatArray:
    """Return an image as a float32 array (rows, columns), copied only where it is not one already."""
    plane = np.asarray(data)
    if plane.dtype != np.float32 or plane.ndim != 2:
        plane = to_brightness(plane)
    return plane


def to_brightness(data: NDArray[Any]) -> FloatArray:
    """Convert an array to brightness: uint8 / 255, uint16 / 65535, colours to their mean, alpha left out.

    Parameters
    ----------
    data : ndarray (rows, columns) or (rows, columns, colours)
        One or three colours, with or without alpha. All other types are taken as they are.

    Returns
    -------
    float32 ndarray (rows, columns)
        A copy.

    Raises
    ------
    ValueError
        It is no image: of other shape, without a pixel, or not of real numbers.
    """
    if data.ndim not in (2, 3) or (data.ndim == 3 and not 1 <= data.shape[2] <= 4) or not data.size:
        raise ValueError(
            f"An image is an array (rows, columns), or (rows, columns, 1 to 4 colours); this one is {data.shape}"
        )
    if data.dtype.kind not in "buif":
        raise ValueError(f"An image is an array of real numbers, not of {data.dtype}")
    values = data.astype(np.float32)
    if values.ndim == 3:
        colours = 1 if values.shape[2] <= 2 else 3
        values = values[..., :colours].mean(axis=2)
    return values / np.float32(_FULL_SCALE.get(data.dtype.newbyteorder("="), 1.0))


def as_size(siz: Any, name: str = "siz") -> tuple[int, int]:
    """Return width and height of a window that is given as one number or as ``(w, h)``."""
    w, h = np.broadcast_to(np.asarray(siz), (2,)).tolist()
    if w != int(w) or h != int(h) or w < 1 or h < 1:
        raise ValueError(f"{name} must be a whole number of pixels, or (w, h), not {siz!r}")
    return int(w), int(h)


class Image(_Base):
    """A grey image: a float32 array (rows, columns) of brightness, usually 0 to 1.

    Parameters
    ----------
    source : str, Path or array_like
        A file (TIFF, PNG, JPEG) or an array, see `to_brightness`. Always copied: nothing done to the image reaches the
        array it was made from.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    soct.errors.InputError
        The file cannot be read as one picture.
    ValueError
        The array is no image.

    Notes
    -----
    An image is an array: ``img1 - img2``, ``img.mean()`` and ``img[:100]`` do what they do with numpy. Planes of real numbers that
    come out of arithmetic are images again, everything else is a plain array. Points are ``(x, y)`` in pixel-edge
    convention, sizes ``(w, h)``.
    """

    def __new__(cls, source: str | Path | ArrayLike) -> Image:
        """Read or copy."""
        if isinstance(source, str | Path):
            from soct.formats.plain_images import read_pixels

            source = read_pixels(source)
        return to_brightness(np.asarray(source)).view(cls)

    @classmethod
    def load(cls, path: str | Path) -> Image:
        """Read a file, as ``Image(path)`` does."""
        return cls(Path(path))

    @classmethod
    def wrap(cls, plane: FloatArray) -> Image:
        """Make a float32 plane that nobody else holds an image without copying it."""
        return plane.view(cls)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array.ndim == 2 and array.dtype.kind == "f":
            return np.asarray(array, np.float32).view(Image)
        plain = np.asarray(array)
        return plain[()] if return_scalar or plain.ndim == 0 else plain

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        if isinstance(part, Image) and part.ndim != 2:
            return part.view(np.ndarray)
        return part

    def __repr__(self) -> str:
        return f"Image({np.asarray(self)!r})"

    def save(self, path: str | Path, qual: int | None = None) -> None:
        """Write to a file; the name's suffix says how.

        Parameters
        ----------
        path : str or Path
            ``.tif`` keeps every value (32-bit floating point); ``.png`` and ``.jpg`` are of 8 bit, brightness clipped to 0 to 1.
        qual : int, optional
            Of a JPEG, 1 to 100.

        Raises
        ------
        FileNotFoundError
            The folder does not exist.
        soct.errors.UsageError
            The suffix or the quality is none of these.
        """
        from soct.formats.pictures import write_picture

        write_picture(path, as_plane(self), qual)

    @property
    def center(self) -> tuple[float, float]:
        """The centre, ``(W / 2, H / 2)``."""
        return self.shape[1] / 2, self.shape[0] / 2

    def stretch(self, percent: float = 0.1) -> None:
        """Stretch the contrast, in place.

        Parameters
        ----------
        percent : float
            So many percent of the pixels become black (0), and as many white (1). NaN stays.

        Raises
        ------
        ValueError
            The percentage is not in [0, 50).
        """
        if not 0 <= percent < 50:
            raise ValueError(f"percent must be at least 0 and less than 50, not {percent!r}")
        values = as_plane(self)
        finite = values[np.isfinite(values)]
        if not finite.size:
            return
        low, high = np.percentile(finite, (percent, 100 - percent))
        if high <= low:
            low, high = float(finite.min()), float(finite.max())
        # An image of one brightness has no contrast to stretch; it becomes black.
        scale = 1.0 / (high - low) if high > low else 0.0
        np.clip((values - np.float32(low)) * np.float32(scale), 0.0, 1.0, out=np.asarray(self))

    def stretched(self, percent: float = 0.1) -> Image:
        """Return a copy with its contrast stretched, see `stretch`."""
        result = Image(self)
        result.stretch(percent)
        return result

    def scaled(self, fac: float = 2) -> Image:
        """Return the image reduced by a factor: the mean over squares of `fac` x `fac` pixels.

        The point ``(x, y)`` becomes ``(x / fac, y / fac)``, exactly so where the factor is whole. What does not fill a square at the
        right and lower edge is left out.

        Raises
        ------
        ValueError
            The factor is less than 1, or the image is smaller than one square.
        """
        from soct.geometry.resampling import average_boxes

        plane = as_plane(self)
        if not (np.isfinite(fac) and fac >= 1):
            raise ValueError(f"fac must be at least 1, not {fac!r}")
        height, width = (int(np.floor(n / fac + 1e-9)) for n in plane.shape)
        if min(height, width) < 1:
            raise ValueError(
                f"An image of {plane.shape[1]} x {plane.shape[0]} pixels cannot be reduced by {fac}"
            )
        rows, columns = (
            min(m, round(n * fac)) for m, n in zip(plane.shape, (height, width), strict=True)
        )
        return Image.wrap(average_boxes(plane[:rows, :columns], (height, width)).copy())

    def apodize(self, gray: float | None = None, force: bool = False) -> None:
        """Fade the outer quarter of each side to grey with a cosine, in place.

        Parameters
        ----------
        gray : float, optional
            The grey; the image's mean where absent.
        force : bool
            An image that has been apodized already stays as it is unless forced.
        """
        if getattr(self, "_apodized", False) and not force:
            return
        from soct.mosaic.spectra import raised_cosine

        plane = as_plane(self)
        level = np.float32(np.nanmean(plane) if gray is None else gray)
        rows, columns = (raised_cosine(n, n / 4) for n in plane.shape)
        np.asarray(self)[...] = level + (plane - level) * rows[:, None] * columns
        self._apodized = True

    def apodized(self, gray: float | None = None, force: bool = False) -> Image:
        """Return a copy whose outer quarter fades to grey, see `apodize`."""
        result = Image(self)
        result._apodized = getattr(self, "_apodized", False)
        result.apodize(gray, force)
        return result

    def straightwindow(
        self,
        xy: ArrayLike | None = None,
        siz: int | Sequence[int] = 512,
        border: float | None = None,
    ) -> Image:
        """Return a window.

        Parameters
        ----------
        xy : (x, y), optional
            Its centre, not necessarily whole; the image's centre where absent.
        siz : int or (w, h)
        border : float, optional
            Brightness beyond the image's edge; the mean of the visible part where absent.

        Returns
        -------
        Image
            Bilinear between pixel centres.

        Raises
        ------
        ValueError
            The window shows nothing of the image and no `border` is given.
        """
        return self._window(xy, Affine(), siz, border)

    def transformedwindow(
        self,
        xy: ArrayLike | None = None,
        tfm: Affine | ArrayLike | None = None,
        siz: int | Sequence[int] = 512,
    ) -> Image:
        """Return a window of the image transformed.

        Parameters
        ----------
        xy : (x, y), optional
            The point of the image that the map is about; the image's centre where absent.
        tfm : Affine or array_like, optional
            What is at ``xy + d`` in the image lies at ``tfm * d`` from the window's centre. The identity where absent.
        siz : int or (w, h)

        Returns
        -------
        Image
            Bilinear; the mean of the visible part beyond the image's edge.
        """
        return self._window(xy, Affine(tfm), siz, None)

    def _window(self, xy: ArrayLike | None, tfm: Affine, siz: Any, border: float | None) -> Image:
        from soct.geometry.affine_sampling import sample_affine

        plane = as_plane(self)
        centre = np.asarray(self.center if xy is None else xy, np.float64)
        if centre.shape != (2,) or not np.isfinite(centre).all():
            raise ValueError(f"xy must be a point (x, y) of two finite numbers, not {xy!r}")
        w, h = as_size(siz)
        to_source = tfm.inverse() @ Affine.translator((0.5 - w / 2, 0.5 - h / 2))
        to_source.shift(centre - 0.5)
        values, seen = sample_affine(plane, to_source.matrix, (h, w), border)
        if not seen and border is None:
            raise ValueError(
                f"A window of {w} x {h} pixels at ({centre[0]:g}, {centre[1]:g}) shows nothing of an image of "
                f"{plane.shape[1]} x {plane.shape[0]} pixels; give a border to have one nevertheless"
            )
        return Image.wrap(values)

    def roi(self, rect: ArrayLike) -> Image:
        """Return a copy of a part.

        Parameters
        ----------
        rect : (x0, y0, w, h)
            The part, within the image; bilinear where `x0` or `y0` is not whole.

        Raises
        ------
        ValueError
            It is not within the image.
        """
        given = np.asarray(rect, np.float64)
        if given.shape != (4,) or not np.isfinite(given).all():
            raise ValueError(f"rect must be (x0, y0, w, h), not {rect!r}")
        x0, y0 = given[:2].tolist()
        w, h = as_size(given[2:], "the size of rect")
        height, width = self.shape
        if x0 < 0 or y0 < 0 or x0 + w > width or y0 + h > height:
            raise ValueError(
                f"rect {given.tolist()} is not within the image of {width} x {height} pixels"
            )
        return self.straightwindow((x0 + w / 2, y0 + h / 2), (w, h))

    def delta(self, img2: ArrayLike, margin: float = 0.05) -> Image:
        """Return this image minus another one of its size.

        Parameters
        ----------
        img2 : Image or array_like
        margin : float
            Part of the width and height that is left out at each edge, in [0, 0.5).
        """
        first, second = as_plane(self), as_plane(img2)
        if first.shape != second.shape:
            raise ValueError(f"The images differ in shape: {first.shape} and {second.shape}")
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin must be at least 0 and less than 0.5, not {margin!r}")
        rows, columns = (slice(int(margin * n), n - int(margin * n)) for n in first.shape)
        return Image.wrap(first[rows, columns] - second[rows, columns])

    def rmsdelta(self, img2: ArrayLike, margin: float = 0.05) -> float:
        """Return the root mean square of `delta`; NaN is left out."""
        difference = self.delta(img2, margin)
        return float(np.sqrt(np.nanmean(np.square(np.asarray(difference, np.float64)))))
