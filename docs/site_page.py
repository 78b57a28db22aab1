"""Write the tables of docs/sites.md from the models of a site file, so that the page cannot fall behind them.

`make docs` runs it with the pages of the steps. What stands outside of the marks is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from soct.pipeline.profiles.store import shipped_sites
from soct.pipeline.profiles.strict_yaml import read_document
from soct.pipeline.profiles.validation import describe_allowed, find_field
from soct.pipeline.sites.site import Site

PAGE = Path(__file__).parent / "sites.md"


def make_page() -> str:
    """Return the text of the page with its tables as they should be."""
    schema = Site.model_json_schema()
    sections = {
        name: schema["$defs"][field["$ref"].rpartition("/")[2]]
        for name, field in schema["properties"].items()
        if "$ref" in field
    }
    tables = {"keys": _keys(schema, schema, sections), "shipped": _shipped()}
    for name, section in sections.items():
        tables[name] = _keys(section, schema, {})
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = _between(text, name, table)
    return text


def _between(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}: made by `make docs` -->", f"<!-- end of {name} -->"
    if begin not in text:
        raise ValueError(f"docs/sites.md has no place for the section {name}: {begin}")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{table}\n\n{end}", text)


def _keys(model: dict[str, Any], schema: dict[str, Any], sections: dict[str, Any]) -> str:
    rows = []
    for name, field in model["properties"].items():
        if name in sections:
            rows.append(f"| `{name}` | [below](#{name}) | | {field['description']} |")
            continue
        allowed = describe_allowed(find_field(model, (name,)), schema)
        rows.append(
            f"| `{name}` | {_escape(allowed)} | {_shown(field.get('default'))} | {field['description']} |"
        )
    return "\n".join(["| key | value | default | what it does |", "|---|---|---|---|", *rows])


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value in ([], ()) else str(value)


def _shipped() -> str:
    rows = []
    for name, path in shipped_sites().items():
        document = read_document(path)
        rows.append(f"| `{name}` | {document.value['description']} |")
    return "\n".join(["| site | for |", "|---|---|", *rows])


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def write_page() -> None:
    """Bring the page up to date."""
    PAGE.write_text(make_page(), encoding="utf-8")


if __name__ == "__main__":
    write_page()
