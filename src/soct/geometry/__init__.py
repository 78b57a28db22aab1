"""The shape of the scan: galvo return, tissue surface, resampling."""
