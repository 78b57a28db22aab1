"""The JSON schema of profiles and site files, for editors that complete and check while one types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from soct.pipeline.profiles.profile import QUALITY, ProfileHead
from soct.pipeline.profiles.store import shipped_profiles
from soct.pipeline.sites.site import Site
from soct.steps.declaration import Step

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def profile_schema(steps: Mapping[str, Step[Any]], quality: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a profile file.

    Parameters
    ----------
    steps : mapping
        Declarations by id.
    quality : type
        The model of the ``quality`` section.

    Returns
    -------
    dict
        Every key with type, range, unit, default and description. A section may be empty.
    """
    sections: dict[str, type[BaseModel]] = {
        QUALITY: quality,
        **{name: step.params for name, step in steps.items()},
    }
    references, definitions = models_json_schema(
        [(model, "validation") for model in sections.values()], by_alias=True
    )
    properties = dict(ProfileHead.model_json_schema()["properties"])
    properties["extends"] = {**properties["extends"], "enum": [*shipped_profiles(), None]}
    for name, model in sections.items():
        section: dict[str, Any] = {"anyOf": [references[model, "validation"], {"type": "null"}]}
        if name in steps:
            section["description"] = steps[name].summary
        properties[name] = section
    return {
        "$schema": _DIALECT,
        "title": "soct profile",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": _without_keyed(definitions.get("$defs", {})),
    }


def site_schema() -> dict[str, Any]:
    """Return the JSON schema of a site file."""
    schema = Site.model_json_schema()
    head = {
        key: ProfileHead.model_json_schema()["properties"][key] for key in ("name", "description")
    }
    return {
        "$schema": _DIALECT,
        **schema,
        "title": "soct site",
        "properties": {**head, **_accept_text(schema["properties"])},
    }


def _accept_text(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Let sizes and durations be written as people do."""
    accepted = {}
    for name, field in properties.items():
        if "text" in field:
            field = {**field, "anyOf": [*field["anyOf"], {"type": "string"}]}
        accepted[name] = field
    return accepted


def _without_keyed(node: Any) -> Any:
    """Drop the mark of parameters that stay out of a unit's key, which says nothing to an editor."""
    if isinstance(node, dict):
        return {
            k: _without_keyed(v)
            for k, v in node.items()
            if not (k == "keyed" and v in (True, False))
        }
    if isinstance(node, list):
        return [_without_keyed(item) for item in node]
    return node
