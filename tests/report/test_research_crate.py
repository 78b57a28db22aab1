"""The RO-Crate of a run says what the specification asks for, and nothing that is not known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from soct.report.model import RunView
from soct.report.rendering import examine
from soct.report.research_crate import METADATA
from tests.report.fabricated import complete_run, empty_run, failed_run, running_run


@pytest.fixture(params=["complete", "failed", "running", "empty"])
def view(request, tmp_path) -> RunView:
    makers = {"complete": complete_run, "failed": failed_run, "running": running_run}
    return makers[request.param](tmp_path) if request.param in makers else empty_run()


def crate(view: RunView) -> dict[str, dict[str, Any]]:
    graph = json.loads(examine(view).data[METADATA])["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph)
    return entities


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        inner = set().union(*(references(v) for v in value.values()))
        return {value["@id"]} if set(value) == {"@id"} else inner
    return set().union(*(references(v) for v in value)) if isinstance(value, list) else set()


def test_the_descriptor_names_the_specification_and_the_root(view):
    descriptor = crate(view)[METADATA]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    context = json.loads(examine(view).data[METADATA])["@context"]
    assert context[0] == "https://w3id.org/ro/crate/1.1/context"


def test_every_reference_leads_to_an_entity_and_every_entity_is_flat(view):
    entities = crate(view)
    outside = {"https://w3id.org/ro/crate/1.1"}
    for entity in entities.values():
        assert {"@id", "@type"} <= set(entity)
        found = references([v for k, v in entity.items() if k != "@id"])
        assert {r for r in found if not r.startswith("http://schema.org/")} <= set(
            entities
        ) | outside
        for value in entity.values():
            for part in value if isinstance(value, list) else [value]:
                assert not isinstance(part, dict) or set(part) == {"@id"}
    reached, waiting = set(), ["./", METADATA]
    while waiting:
        name = waiting.pop()
        if name in entities and name not in reached:
            reached.add(name)
            waiting += references([v for k, v in entities[name].items() if k != "@id"])
    assert reached == set(entities)


def test_the_files_of_the_crate_are_those_of_the_folder_with_size_and_checksum(view):
    entities, data = crate(view), examine(view).data
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    assert parts == set(data) - {METADATA, "SHA256SUMS"}
    for name in parts:
        assert entities[name]["@type"] == "File"
        assert entities[name]["contentSize"] == str(len(data[name]))
        assert entities[name]["sha256"] == hashlib.sha256(data[name]).hexdigest()
        assert entities[name]["encodingFormat"]


def test_the_run_is_an_action_of_soct_on_the_input(tmp_path):
    entities = crate(complete_run(tmp_path))
    action = entities["#run"]
    assert action["@type"] == "CreateAction"
    assert entities[action["instrument"]["@id"]]["softwareVersion"] == "0.1.0"
    assert {"@id": "#input"} in action["object"]
    assert {"@id": "#output-stack"} in action["result"]
    assert action["startTime"] == "2024-03-01T09:00:00+00:00"
    assert action["endTime"] == "2024-03-01T10:21:40+00:00"
    assert action["actionStatus"].endswith("CompletedActionStatus")
    assert entities["./"]["datePublished"] == action["endTime"]
    assert "agent" not in action


def test_a_failed_run_says_so_with_its_error(tmp_path):
    action = crate(failed_run(tmp_path))["#run"]
    assert action["actionStatus"].endswith("FailedActionStatus")
    assert "no common tissue" in action["error"]


def test_an_unknown_licence_is_said_to_be_unknown(view):
    licence = crate(view)[crate(view)["./"]["license"]["@id"]]
    assert licence["name"] == "Licence unknown"
    assert "does not say" in licence["description"]


def test_the_same_run_gives_the_same_bytes_and_hostile_names_stay_text(view):
    hostile = replace(view, subject='"}]<script>\u202e\x07')
    first, second = (examine(hostile).data[METADATA] for _ in range(2))
    assert first == second
    assert first.isascii()
    assert "\\u202e" in json.loads(first)["@graph"][1]["name"]
