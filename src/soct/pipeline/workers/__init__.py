"""Where units are computed: processes on this machine, or the workers of a Dask cluster."""
