"""The report as one file to send: the page and its numbers in a zip that is the same every time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from soct.report.rendering import encode_html, report_name, report_stem
from soct.report.reportlet import Page

_TIME = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name: the run's own times are inside."""
_PLAIN_FILE = 0o100644 << 16
_UNIX = 3


def make_bundle(page: Page) -> bytes:
    """Return a zip with the page and ``report_data/``, below one folder named after the report."""
    stem = report_stem(page.view.subject)
    files = {f"{stem}/{report_name(page.view.subject)}": encode_html(page)}
    files |= {f"{stem}/report_data/{name}": content for name, content in page.data.items()}
    return zip_files(files)


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files by their names: sorted, with one time for all, so equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _TIME)
            member.external_attr = _PLAIN_FILE
            member.create_system = _UNIX
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, files[name])
    return buffer.getvalue()
