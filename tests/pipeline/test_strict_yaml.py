from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soct.errors import ConfigurationError, ExitCode
from soct.pipeline.profiles.strict_yaml import MAX_BYTES, parse_document, parse_value, read_document


def complaint(content: bytes | str) -> str:
    data = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(ConfigurationError) as caught:
        parse_document(data, "p.yaml")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("'010'", "010"),
        ('"true"', "true"),
        ("[1, a, 2.5]", [1, "a", 2.5]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_document(f"key: {text}\n".encode(), "p.yaml").value["key"]
    assert parsed == value
    assert type(parsed) is type(value)
    assert parse_value(text, "here") == value


def test_every_value_knows_its_line() -> None:
    text = "a: 1\n\nb:\n  c: 2\n  d:\n    - 3\n    - 4\n"
    document = parse_document(text.encode(), "p.yaml")
    places = [(), ("a",), ("b", "c"), ("b", "d"), ("b", "d", 1), ("b", "absent")]
    assert [document.line(*path) for path in places] == [1, 1, 4, 5, 7, 3]


def test_all_duplicate_keys_are_told_with_the_line_of_the_first() -> None:
    text = complaint("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert text.splitlines() == [
        "p.yaml:2: b.c: duplicate key (first on line 2)",
        "p.yaml:3: a: duplicate key (first on line 1)",
    ]


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tags are not allowed"),
        ("a: 1\nb: !custom 3\n", 2, "tags are not allowed"),
        ("!!python/name:os.system a: 1\n", 1, "tags are not allowed"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", 1, "%TAG"),
        ("%YAML 1.1\n---\na: 1\n", 1, "%YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "mapping"),
        ("just text\n", 1, "mapping"),
        ("a:\n\tb: 1\n", 2, "tab"),
        ("a:\n  \t b: 1\n", 2, "tab"),
        ("a: .nan\n", 1, "not a finite number"),
        ("a: -.inf\n", 1, "not a finite number"),
        ("a: 1e999\n", 1, "too large"),
        (f"a: {'9' * 5000}\n", 1, "more than 40"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: 'never closed\n", 2, "not valid YAML"),
        ("a: *missing\n", 1, "alias"),
        ("a: &a [*a]\n", 1, "alias"),
        ("? [1, 2]\n: 3\n", 1, "plain text"),
        (b"a: 1\nb: \x00\n", 2, "NUL"),
        (b"\xef\xbb\xbfa: 1\n", 1, "byte order mark"),
        ("a: 1\n".encode("utf-16"), 1, "UTF-16"),
        ("a: 1\n".encode("utf-16-le"), 1, "UTF-16"),
        ("a: 1\n".encode("utf-32"), 1, "UTF-16"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        ("a: \x1b[31mred\n", 1, "U+001B"),
        ("a: 1\nb: \u2028\n", 2, "U+2028"),
    ],
)
def test_what_is_not_plain_configuration_is_refused_with_its_line(
    content: bytes | str, line: int, word: str
) -> None:
    text = complaint(content)
    assert text.startswith(f"p.yaml:{line}: ")
    assert word in text


def bomb() -> str:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 10):
        text += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    return text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (bomb(), "aliases expanded"),
        ("a: &a 1\nb: [" + "*a, " * 500 + "]\n", "aliases"),
        ("a: " + "[" * 10_000, "deep"),
        ("a: " + "{a: " * 10_000, "deep"),
        ("".join(" " * i + "a:\n" for i in range(1_000)), "deep"),
        ("- " * 100_000, "deep"),
        ("? " * 100_000, "deep"),
        ("a:\n" + "- b\n" * 200_000, "values"),
        ("x" * (MAX_BYTES + 1), "larger"),
        ("\t" * 900_000 + "a", "tab"),
        ("a: '" + "x" * 900_000, "not valid YAML"),
    ],
    ids=["bomb", "aliases", "brackets", "braces", "blocks", "dashes", "keys", "long", "huge",
         "tabs", "quote"],
)  # fmt: skip
def test_hostile_input_is_refused_within_a_second(content: str, word: str) -> None:
    started = time.process_time()
    assert word in complaint(content)
    assert time.process_time() - started < 1.0


def test_a_file_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    started = time.process_time()
    with pytest.raises(ConfigurationError, match="larger than"):
        read_document(path)
    assert time.process_time() - started < 1.0


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="regular file"):
        read_document(tmp_path)
    with pytest.raises(ConfigurationError, match="Cannot read"):
        read_document(tmp_path / "absent.yaml")
    with pytest.raises(ConfigurationError, match="regular file"):
        read_document(Path("/dev/zero"))


def test_aliases_within_bounds_are_what_they_stand_for() -> None:
    value = parse_document(b"a: &x [1, 2]\nb: *x\n", "p.yaml").value
    assert value == {"a": [1, 2], "b": [1, 2]}


def test_a_merge_key_is_just_a_key() -> None:
    assert "<<" in parse_document(b"a: &x {k: 1}\nb: {<<: *x}\n", "p.yaml").value["b"]


def test_names_in_messages_are_inert() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_document(b"", "evil\x1b[2J\nname.yaml")
    assert caught.value.message.startswith("evil\\x1b[2J\\nname.yaml:1: ")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_a_mapping_or_a_configuration_error(content: bytes) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse_document(content, "p").value, dict)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@`?#~\n 0.1e", max_size=60))
def test_any_yaml_like_text_gives_a_value_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse_value(text, "here")
