"""Place tiles from points matched between them."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.errors import ExitCode, UserError
from soct.spectral.adjustment import Adjustment, adjust
from soct.spectral.affine import Affine
from soct.spectral.reliability import Reliability, find_underdetermined, judge
from soct.spectral.tile_maps import MOST_PULL, Matches, Model

Point = tuple[float, float]


class PlacementError(UserError, ValueError):
    """Matches that cannot be used, or a question that they cannot answer."""

    exit_code = ExitCode.INPUT


class PlacementWarning(UserWarning):
    """Tiles were placed, but not as one might take for granted: apart from each other, or without some of the matches."""


@dataclass(frozen=True)
class MatchResidual:
    """What became of one match.

    Attributes
    ----------
    t1, t2 : hashable
        The two tiles.
    p1, p2 : (float, float)
        The matched points, in the tiles' coordinates.
    residual_px : float
        Distance between the two points where the tiles were placed.
    weight : float
        As given.
    vote : float
        Share of its weight that counted, in [0, 1].
    accepted : bool
        Whether it had a vote.
    """

    t1: Hashable
    t2: Hashable
    p1: Point
    p2: Point
    residual_px: float
    weight: float
    vote: float
    accepted: bool


@dataclass(frozen=True)
class _Solved:
    """What was solved; what is said about it waits until somebody asks, since that takes as long."""

    model: Model
    matches: Matches
    adjustment: Adjustment

    @cached_property
    def reliability(self) -> Reliability:
        return judge(self.matches, self.adjustment, self.model)

    @cached_property
    def underdetermined(self) -> dict[int, str]:
        return find_underdetermined(self.matches, self.adjustment, self.model)


class Placement:
    """Positions or maps of tiles that fit matched points best.

    A match says that point `p1` of tile `t1` and point `p2` of tile `t2` show the same place. `rigid`, `similarity` and `affine` find
    the shift, or the map, of every tile under which all matches agree as well as they can (weighted least squares). Points are
    ``(x, y)``; a position is where the tile's corner ``(0, 0)`` lies, a map takes the tile's coordinates to those of the mosaic.

    Attributes (of the last call, empty before it)
    ----------
    residuals : tuple of MatchResidual
        Every match, in the order in which it was added.
    confidence : dict of tile to float
        In [0, 1]: how much holds the tile. Neighbours whose matches agree and are checked by other tiles count most; a tile that
        hangs on one unchecked match has 0.3.
    weak : dict of tile to str
        Tiles that hang on weak links or whose matches mostly lost, and why.
    underdetermined : dict of tile to str
        Tiles whose points alone would not fix a map (too few, or on one line), and what gave the rest.
    groups : tuple of tuple
        Tiles that matches join, largest group first. Each group is placed in a frame of its own.
    sigma_px : float
        Standard deviation per axis of the matches, from their residuals.
    limit_px : float
        Residual beyond which a match lost its vote.
    pull : float
        Weight that each tile's undistorted shape had, in matches (`regularize`).

    Notes
    -----
    The frame. Nothing in the matches says where the mosaic lies: without `fix` the mean position of a group is ``(0, 0)``. Nor do
    they say how the whole is stretched, turned or sheared: a similarity or affine placement keeps the mean linear part of each
    group at the identity. With `fix`, the tile lies at ``(0, 0)``, its map is the identity, and all others of its group follow;
    tiles lie to each other as they do without it. Other groups stay as they are.

    The order in which matches are added changes results only by rounding, except where two matches contradict each other and
    nothing else decides: then the heavier wins, or the one that was added first. Threads change nothing.

    Examples
    --------
    >>> placement = Placement()
    >>> placement.addmatch("left", "right", (90.0, 40.0), (10.0, 42.0))
    >>> placement.rigid(fix="left")
    {'left': (0.0, 0.0), 'right': (80.0, -2.0)}
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._tiles: list[tuple[int, int]] = []
        self._points: list[NDArray[np.float64]] = []
        self._weights: list[NDArray[np.float64]] = []
        self._solved: _Solved | None = None

    def addmatch(
        self,
        t1: Hashable,
        t2: Hashable,
        p1: ArrayLike,
        p2: ArrayLike,
        weight: ArrayLike = 1.0,
    ) -> None:
        """Add one match, or many, between two tiles.

        Parameters
        ----------
        t1, t2 : hashable
            The tiles: numbers, names, tuples, anything that a dictionary takes as a key.
        p1, p2 : array_like (2,) or (m, 2)
            The same place or places, ``(x, y)``, in `t1` and in `t2`.
        weight : float or array_like (m,)
            How much a match counts against others, in proportion to one over its variance; 0 keeps it for `residuals` without a
            vote.

        Raises
        ------
        PlacementError (a ValueError)
            If the tiles are the same one, points or weights are not finite, a weight is negative, or their numbers differ. Nothing
            is added then.
        """
        for tile in (t1, t2):
            # NaN is a key that is never found again.
            if tile != tile:
                raise PlacementError(f"{tile!r} cannot name a tile: it does not equal itself")
        between = f"between tiles {t1!r} and {t2!r}"
        if t1 == t2:
            raise PlacementError(
                f"A match joins tile {t1!r} with itself", hint="Give two different tiles"
            )
        first, second = _points(p1, "p1", between), _points(p2, "p2", between)
        if len(first) != len(second):
            raise PlacementError(
                f"The match {between} has {len(first)} points in the first and {len(second)} in the second"
            )
        given = np.asarray(weight, np.float64)
        if given.ndim > 1 or (given.ndim == 1 and len(given) != len(first)):
            raise PlacementError(
                f"The match {between} has {len(first)} points and weights of the shape {given.shape}",
                expected=f"one weight, or {len(first)}",
            )
        weights = np.broadcast_to(given, (len(first),)).copy()
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise PlacementError(
                f"A weight of the match {between} is not a finite number of at least 0",
                found=", ".join(f"{w:g}" for w in weights[:5]),
            )
        numbers = [self._numbers.setdefault(t, len(self._numbers)) for t in (t1, t2)]
        self._tiles.extend([(numbers[0], numbers[1])] * len(first))
        self._points.append(np.stack([first, second], axis=1))
        self._weights.append(weights)
        self._solved = None

    def rigid(self, fix: Hashable | None = None, *, robust: bool = True) -> dict[Hashable, Point]:
        """Find the position of every tile.

        Parameters
        ----------
        fix : hashable, optional
            The tile that lies at ``(0, 0)``.
        robust : bool
            Whether matches that disagree with the rest lose their vote, even all those between two tiles. The link that alone
            joins a part to the rest is kept. What lost is in `residuals` and told in a warning.

        Returns
        -------
        dict of tile to (float, float)
            In the order in which tiles were first named.

        Raises
        ------
        PlacementError (a ValueError)
            If there is no match, or no tile `fix`.
        """
        matrices = self._solve("rigid", fix, robust, None)
        # Adding zero takes the sign off a zero.
        positions = (matrices[:, :, 2] + 0.0).tolist()
        return {t: (positions[k][0], positions[k][1]) for t, k in self._numbers.items()}

    def similarity(
        self,
        fix: Hashable | None = None,
        *,
        robust: bool = True,
        regularize: float | Literal["auto"] = "auto",
    ) -> dict[Hashable, Affine]:
        """Find a shift, a turn and a scale for every tile; see `affine`.

        Returns
        -------
        dict of tile to Affine
        """
        matrices = self._solve("similarity", fix, robust, regularize)
        return {t: Affine(matrices[k]) for t, k in self._numbers.items()}

    def affine(
        self,
        fix: Hashable | None = None,
        *,
        robust: bool = True,
        regularize: float | Literal["auto"] = "auto",
    ) -> dict[Hashable, Affine]:
        """Find an affine map for every tile.

        Without `fix` the mean linear part of each group of tiles is the identity, and the mean of the tiles' positions the origin:
        matches cannot tell how the whole is turned, scaled or sheared. Errors of a fraction of a pixel in the matches would add
        up to bends of the whole mosaic if tiles were free to take any shape; so each tile is pulled towards the mean shape of its
        group. A tile whose points lie on one line, as along a seam, keeps the group's shape across the line.

        Parameters
        ----------
        fix : hashable, optional
            The tile whose map is the identity.
        robust : bool
            As in `rigid`.
        regularize : float or 'auto'
            Strength of that pull: as many matches of mean weight, at the typical distance of a point from the middle of its
            tile, as would have to contradict it. 0 leaves it out (as far as the tiles' points fix their maps); infinity gives
            `rigid`. 'auto' estimates it from the matches, as the variance of their noise over that of the tiles' shapes, where the
            marginal likelihood peaks: tiles that fit undistorted stay so, tiles that are plainly distorted are free.

        Returns
        -------
        dict of tile to Affine
            In the order in which tiles were first named.

        Raises
        ------
        PlacementError (a ValueError)
            If there is no match, no tile `fix`, or `regularize` is negative or NaN.
        """
        matrices = self._solve("affine", fix, robust, regularize)
        return {t: Affine(matrices[k]) for t, k in self._numbers.items()}

    @property
    def tiles(self) -> tuple[Hashable, ...]:
        """Every tile, in the order in which it was first named."""
        return tuple(self._numbers)

    @property
    def residuals(self) -> tuple[MatchResidual, ...]:
        """Every match and what became of it."""
        if self._solved is None:
            return ()
        names, adjustment = self.tiles, self._solved.adjustment
        points = np.concatenate(self._points).tolist()
        weights = np.concatenate(self._weights).tolist()
        columns = zip(
            self._tiles,
            points,
            weights,
            adjustment.residual_px.tolist(),
            adjustment.vote.tolist(),
            strict=True,
        )
        return tuple(
            MatchResidual(
                names[i],
                names[j],
                (p[0][0], p[0][1]),
                (p[1][0], p[1][1]),
                residual,
                weight,
                vote if weight > 0 else 0.0,
                vote > 0 and weight > 0,
            )
            for (i, j), p, weight, residual, vote in columns
        )

    @property
    def confidence(self) -> dict[Hashable, float]:
        """How much holds each tile, in [0, 1]."""
        if self._solved is None:
            return {}
        return dict(zip(self.tiles, self._solved.reliability.confidence.tolist(), strict=True))

    @property
    def weak(self) -> dict[Hashable, str]:
        """Tiles that hang on weak links, or whose matches mostly lost, and why."""
        if self._solved is None:
            return {}
        names, found = self.tiles, self._solved.reliability
        out = {}
        for tile, links in found.hanging.items():
            told = [
                f"{names[i]!r} - {names[j]!r} ({what})"
                for i, j, what in (found.weak_links[k] for k in links)
            ]
            out[names[tile]] = f"hangs on {_list(told, 3)}" if told else "no match has a vote"
        for tile, why in found.doubtful.items():
            out[names[tile]] = why
        return {t: out[t] for t in names if t in out}

    @property
    def underdetermined(self) -> dict[Hashable, str]:
        """Tiles whose points alone would not fix a map, and what gave the rest."""
        if self._solved is None:
            return {}
        return {self.tiles[t]: why for t, why in self._solved.underdetermined.items()}

    @property
    def groups(self) -> tuple[tuple[Hashable, ...], ...]:
        """Tiles that matches join, largest group first."""
        if self._solved is None:
            return ()
        names, label = self.tiles, self._solved.adjustment.group
        members = [np.flatnonzero(label == g).tolist() for g in range(int(label.max()) + 1)]
        members.sort(key=lambda m: (-len(m), m[0]))
        return tuple(tuple(names[t] for t in m) for m in members)

    @property
    def sigma_px(self) -> float:
        """Standard deviation per axis of the matches, from their residuals."""
        return float("nan") if self._solved is None else self._solved.adjustment.sigma_px

    @property
    def limit_px(self) -> float:
        """Residual beyond which a match lost its vote."""
        return float("nan") if self._solved is None else self._solved.adjustment.limit_px

    @property
    def pull(self) -> float:
        """Weight that each tile's undistorted shape had, in matches."""
        return float("nan") if self._solved is None else self._solved.adjustment.pull

    def _solve(
        self, model: Model, fix: Hashable | None, robust: bool, regularize: float | str | None
    ) -> NDArray[np.float64]:
        if not self._points:
            raise PlacementError(
                "There is no match to place tiles by", hint="Call addmatch for tiles that overlap"
            )
        if fix is not None and fix not in self._numbers:
            raise PlacementError(
                f"No match names the tile {fix!r}, which was to be fixed",
                expected=f"one of {_list([repr(t) for t in self._numbers], 20)}",
            )
        pull = _read_pull(regularize)
        matches = self._collect()
        found = adjust(matches, model, robust=robust, pull=pull)
        self._solved = _Solved(model, matches, found)
        self._warn()
        return found.matrices if fix is None else _refer(found, self._numbers[fix], fix)

    def _collect(self) -> Matches:
        tiles = np.array(self._tiles, np.int64).reshape(-1, 2)
        weight = np.concatenate(self._weights)
        voted = weight > 0
        if voted.any():
            weight = weight / weight[voted].mean()
        return Matches(tiles, np.concatenate(self._points), weight, len(self._numbers))

    def _warn(self) -> None:
        assert self._solved is not None
        if self._solved.adjustment.group.any():
            groups = self.groups
            told = [f"{len(g)} ({_list([repr(t) for t in g], 5)})" for g in groups[:6]]
            if len(groups) > 6:
                told.append(f"{len(groups) - 6} smaller ones")
            warnings.warn(
                f"The matches leave the {len(self._numbers)} tiles in {len(groups)} groups, each placed "
                f"in a frame of its own: {'; '.join(told)}",
                PlacementWarning,
                stacklevel=4,
            )
        matches, found = self._solved.matches, self._solved.adjustment
        lost = np.flatnonzero((found.vote == 0) & (matches.weight > 0))
        if lost.size:
            lost = lost[np.argsort(-found.residual_px[lost], kind="stable")]
            pairs = dict.fromkeys(tuple(sorted(t)) for t in matches.tiles[lost].tolist())
            names = self.tiles
            told = [f"{names[i]!r} - {names[j]!r}" for i, j in pairs]
            warnings.warn(
                f"{lost.size} of {len(matches.weight)} matches disagree with the rest by up to "
                f"{found.residual_px[lost[0]]:.3g} px and had no vote, most between {_list(told, 5)}; "
                "see Placement.residuals",
                PlacementWarning,
                stacklevel=4,
            )


def _points(given: ArrayLike, name: str, between: str) -> NDArray[np.float64]:
    try:
        points = np.array(given, np.float64)
    except (TypeError, ValueError) as error:
        raise PlacementError(f"{name} of the match {between} is not made of numbers") from error
    if points.shape == (2,):
        points = points[None]
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise PlacementError(
            f"{name} of the match {between} has the shape {points.shape}",
            expected="one point (x, y), or points (m, 2)",
        )
    if not np.isfinite(points).all():
        raise PlacementError(f"{name} of the match {between} is not finite: {points.tolist()[:3]}")
    return points


def _read_pull(regularize: float | str | None) -> float | None:
    if regularize is None or regularize == "auto":
        return None
    if isinstance(regularize, str) or not float(regularize) >= 0:
        raise PlacementError(
            f"regularize is {regularize!r}", expected="a number of at least 0, or 'auto'"
        )
    return min(float(regularize), MOST_PULL)


def _refer(found: Adjustment, tile: int, name: Hashable) -> NDArray[np.float64]:
    """Express maps in the frame of one tile, for its group."""
    frame = found.matrices[tile]
    linear = frame[:, :2]
    if abs(np.linalg.det(linear)) < 1e-9:
        raise PlacementError(
            f"The matches of tile {name!r} squeeze it onto a line: it cannot be fixed"
        )
    out = found.matrices.copy()
    mine = found.group == found.group[tile]
    shifted = out[mine]
    shifted[:, :, 2] -= frame[:, 2]
    out[mine] = np.linalg.solve(linear, shifted)
    # Exactly so, not but for rounding.
    out[tile] = np.eye(2, 3)
    return out


def _list(names: Iterable[str], most: int) -> str:
    shown = list(names)
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")
