"""The outside world: raw tiles, OME-Zarr, tables, transforms. All reading and writing of data files lives here."""
