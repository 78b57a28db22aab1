"""Try settings of fix_illumination on some tiles: a table, a contact sheet, and the lines of the best.

Every setting is fitted on half of the slices and judged by the seams of the other half.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options
from soct.cli.terminal import data, data_json, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.mosaic_grid import MosaicGrid
    from soct.quality.illumination_sweep import FlatFieldSetting, SweepRow
    from soct.space import FloatArray


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN|GRIDS", help="A run folder, or a folder of mosaic grids."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Where sheet and table are written."),
    ] = Path("illumination-sweep"),
    methods: Annotated[
        str,
        typer.Option("--method", metavar="LIST", help="Among basic, median and mean."),
    ] = "basic,median",
    smoothness: Annotated[
        str,
        typer.Option("--smoothness", metavar="LIST", help="Numbers, and auto; only for basic."),
    ] = "auto,2,8",
    darkfield: Annotated[
        str, typer.Option("--darkfield", metavar="LIST", help="Among no and yes.")
    ] = "no,yes",
    tiles: Annotated[int, typer.Option("--tiles", min=4, help="Tiles looked at, at most.")] = 120,
    overlap: Annotated[
        float | None,
        typer.Option("--overlap", min=0, max=0.9, help="Of neighbours without stage position."),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Try settings of fix_illumination on some tiles: a table, a contact sheet, and the lines of the best."""
    import numpy as np

    from soct.compute import caches
    from soct.pipeline.folder.run_folder import telling_of_writes

    caches.prepare()
    from soct.quality.illumination_sweep import sweep_illumination

    settings = read_settings(methods, darkfield, smoothness)
    projections, positions, groups = _load(source, tiles, overlap)
    n_slices = len(np.unique(groups))
    words(f"{len(projections)} tiles of {n_slices} slices, {len(settings)} settings")
    if n_slices < 2:
        words("warning: one slice only: settings are judged by the tiles that they were fitted on")
    rows = sweep_illumination(projections, positions, groups, settings)
    with telling_of_writes(out):
        _write(out, rows)
    if as_json:
        data_json([_as_dict(row) for row in rows])
    else:
        data(*_table(rows))
        data("", *yaml_of_best(rows))
    words(f"table and contact sheet: {out}")
    return 0


def read_settings(methods: str, darkfield: str, smoothness: str) -> tuple[FlatFieldSetting, ...]:
    """Read the three lists; a word that is none of theirs is a usage error."""
    from soct.errors import UsageError
    from soct.quality.illumination_sweep import make_settings

    def words_of(text: str, option: str, allowed: dict[str, Any]) -> list[Any]:
        found = []
        for part in (p.strip() for p in text.split(",")):
            if part not in allowed:
                raise UsageError(
                    f"{option}: {part!r} cannot be tried",
                    expected=", ".join(map(str, allowed)),
                )
            found.append(allowed[part])
        return found

    def strength(part: str) -> float | None:
        if part == "auto":
            return None
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e6:
            raise UsageError(f"--smoothness: {part!r} cannot be tried", expected="auto, 2, 8, ...")
        return value

    return make_settings(
        words_of(methods, "--method", {m: m for m in ("basic", "median", "mean")}),
        words_of(darkfield, "--darkfield", {"no": False, "yes": True}),
        [strength(part.strip()) for part in smoothness.split(",")],
    )


def find_grids(source: Path) -> list[Path]:
    """Return the mosaic grids of a run, of a folder, or the one that is named; ascending."""
    from soct.errors import InputError

    if source.name.endswith(".zarr"):
        return [source]
    for folder in (
        source / "resample_mosaic_grid",
        source / "create_mosaic_grid",
        source,
    ):
        found = sorted(folder.glob("*.ome.zarr"))
        if found:
            return found
    raise InputError(
        "There is no mosaic grid here",
        file=source,
        expected="a run folder with resample_mosaic_grid/, or a folder of *.ome.zarr",
        hint="`soct run INPUT RUN --until resample` makes the grids.",
    )


def _load(
    source: Path, most: int, overlap: float | None
) -> tuple[FloatArray, NDArray[np.float64], NDArray[np.int64]]:
    """Projections of blocks of neighbouring tiles, from slices spread over the run."""
    import numpy as np

    from soct.errors import InputError
    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.intensity.illumination import reduce_projection
    from soct.steps.fix_illumination import project_tile
    from soct.steps.grid_tiles import TileLoader, expected_positions, present_tiles

    paths = find_grids(source)
    slices = min(len(paths), max(2, most // 16))
    chosen = [paths[round(k)] for k in np.linspace(0, len(paths) - 1, slices)]
    images, places, groups = [], [], []
    shape: tuple[int, int] | None = None
    for number, path in enumerate(chosen):
        grid = open_mosaic_grid(path)
        there = _block(grid, max(4, most // slices))
        tiles = [t for t in present_tiles(grid) if (t.row, t.col) in there]
        if not tiles:
            continue
        px = expected_positions(grid, tiles, _overlap(source, overlap)).px
        load = TileLoader(grid, tiles, _curvature(source))
        for k in range(len(tiles)):
            reduced = reduce_projection(project_tile(load(k)))
            shape = shape or (reduced.shape[0], reduced.shape[1])
            if reduced.shape != shape:
                raise InputError("The grids differ in tile shape", file=path)
            images.append(reduced)
            places.append(px[k] * np.array(reduced.shape) / np.array(grid.tile_shape[1:]))
            groups.append(number)
    if not images:
        raise InputError("no grid holds a tile with data", file=source)
    return np.stack(images), np.array(places), np.array(groups, np.int64)


def _block(grid: MosaicGrid, most: int) -> set[tuple[int, int]]:
    """Grid indices of a block in the middle, of at most about `most` tiles."""
    side = max(2, int(most**0.5))
    rows, cols = min(grid.rows, side), min(grid.cols, side)
    rows = min(grid.rows, max(rows, most // max(cols, 1)))
    cols = min(grid.cols, max(cols, most // max(rows, 1)))
    r0, c0 = (grid.rows - rows) // 2, (grid.cols - cols) // 2
    return {(r, c) for r in range(r0, r0 + rows) for c in range(c0, c0 + cols)}


def _overlap(source: Path, given: float | None) -> float | tuple[float, float]:
    from soct.formats.documents import read_document

    found = sorted((source / "estimate_xy_shifts").glob("*overlap*.json"))
    if given is not None or not found:
        return 0.2 if given is None else given
    y, x = read_document(found[0])["overlap_fraction_yx"]
    return float(y), float(x)


def _curvature(source: Path) -> FloatArray | None:
    import numpy as np

    for path in sorted((source / "fix_focal_curvature").glob("*.npz")):
        with np.load(path) as saved:
            if "depth_px" in saved.files and np.any(saved["depth_px"]):
                return np.asarray(saved["depth_px"], np.float32)
    return None


def _as_dict(row: SweepRow) -> dict[str, Any]:
    setting = row.setting
    return {
        "method": "none" if setting is None else setting.method,
        "darkfield": None if setting is None else setting.darkfield,
        "smoothness_flatfield": None if setting is None else setting.smoothness,
        "seam_l1": row.l1,
        "seam_pearson": row.pearson,
        "seam_shading": row.shading,
        "overlaps": row.pairs,
        "flat_min": float(row.flat.min()),
        "flat_max": float(row.flat.max()),
        "dark": row.dark,
        "seconds": row.seconds,
    }


def _table(rows: tuple[SweepRow, ...]) -> list[str]:
    lines = [
        f"{'setting':<32} {'seam L1':>8} {'pearson':>8} {'shading':>8} {'flat field':>13} {'s':>6}"
    ]
    for row in rows:
        name = "no correction" if row.setting is None else str(row.setting)
        span = f"{row.flat.min():.2f} .. {row.flat.max():.2f}"
        lines.append(
            f"{name:<32} {row.l1:>8.4f} {row.pearson:>8.4f} {row.shading:>8.4f} {span:>13} {row.seconds:>6.1f}"
        )
    return lines


def yaml_of_best(rows: tuple[SweepRow, ...]) -> list[str]:
    """Return the lines of a profile that choose the best setting; a switch where none is better than nothing."""
    none, *tried = rows
    if not tried or not tried[0].l1 < none.l1:
        return [
            "# no setting makes the seams agree better",
            "fix_illumination:",
            "  enabled: false",
        ]
    best = tried[0].setting
    assert best is not None
    smooth = "null" if best.smoothness is None else f"{best.smoothness:g}"
    return [
        "fix_illumination:",
        f"  method: {best.method}",
        f"  darkfield: {str(best.darkfield).lower()}",
        f"  smoothness_flatfield: {smooth}",
    ]


def _write(out: Path, rows: tuple[SweepRow, ...]) -> None:
    """Write ``sweep.csv``, ``contact_sheet.png`` and ``best.yaml``."""
    import csv
    import io

    from soct.formats.atomic import write_bytes, write_text
    from soct.report.sheets import Panel, draw_sheet, encode_sheet, paint

    out.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(_as_dict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_as_dict(row) for row in rows)
    write_text(out / "sweep.csv", table.getvalue())
    write_text(out / "best.yaml", "\n".join(yaml_of_best(rows)) + "\n")
    low = min(float(row.flat.min()) for row in rows)
    high = max(float(row.flat.max()) for row in rows)
    panels = [
        Panel(
            paint(row.flat, window=(low, max(high, low + 1e-3)), colours="cividis"),
            "no correction" if row.setting is None else str(row.setting),
            f"seam L1 {row.l1:.3f}, r {row.pearson:.3f}; flat {row.flat.min():.2f} to {row.flat.max():.2f}",
        )
        for row in rows
    ]
    write_bytes(
        out / "contact_sheet.png",
        encode_sheet(draw_sheet(panels, columns=4, width=1120), 400_000),
    )
