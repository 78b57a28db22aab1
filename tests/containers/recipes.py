"""Reads Apptainer.def, the Dockerfile and the lock files, as far as the tests ask."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"


@dataclass(frozen=True)
class Definition:
    """Apptainer.def: what stands above its sections, and the lines of each."""

    header: dict[str, str]
    sections: dict[str, list[str]]

    @property
    def arguments(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.sections["arguments"])

    @property
    def text(self) -> str:
        lines = [*self.header.values(), *(line for s in self.sections.values() for line in s)]
        return "\n".join(lines)

    @property
    def labels(self) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in self.sections["labels"])

    @property
    def copied(self) -> dict[str, str]:
        return dict(line.split() for line in self.sections["files"])


def read_definition(path: Path = CONTAINERS / "Apptainer.def") -> Definition:
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            assert name not in sections, f"section {name} twice"
            lines = sections.setdefault(name, [])
        elif line.strip() and not line.lstrip().startswith("#"):
            if lines is None:
                key, _, value = line.partition(":")
                header[key] = value.strip()
            else:
                assert line.startswith("    "), f"not indented: {line}"
                lines.append(line.strip())
    return Definition(header, sections)


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined."""

    word: str
    rest: str
    stage: int


def read_dockerfile(path: Path = CONTAINERS / "Dockerfile") -> list[Instruction]:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found, stage = [], 0
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Instruction(word, rest.strip(), stage))
    return found


def arguments(instructions: list[Instruction]) -> dict[str, str]:
    return dict(i.rest.split("=", 1) for i in instructions if i.word == "ARG")


def labels(instructions: list[Instruction]) -> dict[str, str]:
    (label,) = [i.rest for i in instructions if i.word == "LABEL"]
    return dict(re.findall(r'(\S+?)="([^"]*)"', label))


def command_line(instructions: list[Instruction], word: str) -> list[str]:
    (found,) = [i.rest for i in instructions if i.word == word]
    return list(json.loads(found))


_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<marker> ; .*?)? \\$")


def read_lock(path: Path) -> dict[str, set[str]]:
    """Return the versions of every package of a lock file; every one has a checksum."""
    pins: dict[str, set[str]] = {}
    hashed: set[str] = set()
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            assert line.strip().startswith("--hash=sha256:"), line
            hashed.add(name)
        elif line and not line.startswith("#"):
            pin = _PIN.match(line)
            assert pin is not None, line
            name = pin["name"]
            pins.setdefault(name, set()).add(pin["version"])
    assert hashed == set(pins)
    return pins
