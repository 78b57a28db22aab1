"""Rating a run: what a rating file must hold, how far raters agree, and what the page shows of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from soct.errors import InputError
from soct.report.identity import run_key
from soct.report.model import AcquisitionView, ParameterView, RatingView, RunView, StepView
from soct.report.plain_text import summarise_as_text
from soct.report.ratings import (
    ARTEFACTS,
    RATINGS,
    agree,
    check_run,
    current_ratings,
    describe_agreement,
    parse_rating,
    template,
)
from soct.report.rendering import examine, render_html
from tests.report.fabricated import complete_run, empty_run

KEY = run_key(empty_run())


def document(**changes: object) -> dict[str, object]:
    said = {"format": "soct rating 1", "run": KEY, "rater": "A. Rater", "rating": "accept"}
    return {**said, **changes}


def parse(content: object) -> RatingView:
    return parse_rating(json.dumps(content).encode(), "r.json")


def rated(*ratings: RatingView) -> RunView:
    return replace(empty_run(), ratings=ratings)


def test_the_template_with_one_word_chosen_is_a_rating_of_this_run():
    filled = json.loads(template(empty_run(), "REVIEW"))
    filled |= {"rating": "conditional", "rater": " A. Rater ", "artefacts": ["seams", "banding"]}
    rating = parse(filled)
    check_run(rating, empty_run(), "r.json")
    assert (rating.rater, rating.rating) == ("A. Rater", "conditional")
    assert rating.artefacts == ("banding", "seams")
    assert rating.computed == "REVIEW"


def test_the_template_as_it_stands_is_no_rating():
    with pytest.raises(InputError, match="cannot be taken"):
        parse_rating(template(empty_run(), "PASS").encode(), "r.json")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rating": "acept"}, 'did you mean "accept"'),
        ({"rating": 3}, '"rating" is no text'),
        ({"rater": "  "}, '"rater" is empty'),
        ({"rater": "x" * 201}, "longer than 200"),
        ({"artefacts": "banding"}, "no list of texts"),
        ({"artefacts": ["bandings"]}, "banding, misplaced_slices"),
        ({"time": "yesterday"}, "2024-05-31T14:00:00Z"),
        ({"format": "soct rating 2"}, "soct rating 1"),
        ({"coment": ""}, 'did you mean "comment"'),
    ],
)
def test_each_fault_of_a_rating_file_is_named(changes, told):
    with pytest.raises(InputError) as error:
        parse(document(**changes))
    assert told in str(error.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(InputError, match="3 faults"):
        parse({"format": "soct rating 1", "run": KEY, "rating": "no", "sum": ""})


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"{", b"[1]", b"[" * 5000, b'{"run": "a", "run": "b"}', b" " * 70_000],
)
def test_what_is_no_json_object_is_an_input_error(content):
    with pytest.raises(InputError):
        parse_rating(content, "r.json")


def test_a_rating_of_another_run_is_refused_with_both_keys():
    rating = parse(document(run="0123456789abcdef"))
    with pytest.raises(InputError) as error:
        check_run(rating, empty_run(), "r.json")
    assert KEY in str(error.value)
    assert "0123456789abcdef" in str(error.value)


def test_the_key_follows_data_steps_and_parameters_and_nothing_else():
    view = empty_run()
    changed = {
        run_key(replace(view, steps=(StepView("stack", version=2),))),
        run_key(replace(view, parameters=(ParameterView("a.b", "1"),))),
        run_key(replace(view, acquisition=AcquisitionView(fingerprints=(("0", "ab"),)))),
        run_key(view),
    }
    assert len(changed) == 4
    moved = replace(view, subject="x", run_folder="y", acquisition=AcquisitionView(path="/z"))
    assert run_key(moved) == run_key(view)


def test_the_latest_rating_of_each_rater_counts_and_only_of_this_run():
    ratings = (
        RatingView("A", "accept", KEY, time="2024-01-01T10:00:00+02:00"),
        RatingView("a", "reject", KEY, time="2024-01-01T09:00:00Z"),
        RatingView("B", "accept", "another"),
    )
    assert [r.rating for r in current_ratings(rated(*ratings))] == ["reject"]
    text = render_html(examine(rated(*ratings)))
    assert "no: the rater has rated again" in text
    assert "no: other settings or raw data then" in text


def test_agreement_counts_pairs_and_the_computed_verdict():
    said = [RatingView(n, r, KEY, ("seams",)) for n, r in zip("ABCD", ("accept", "accept", "reject", "accept"), strict=True)]  # fmt: skip
    found = agree(said, "PASS")
    assert (found.pairs, found.agreeing_pairs, found.as_computed) == (6, 3, 3)
    assert dict(found.counts) == {"accept": 3, "reject": 1}
    assert dict(found.artefacts) == {"seams": 4}
    assert "4 raters disagree: 3 accept, 1 reject; 3 of 6 pairs agree." in describe_agreement(found, "PASS")  # fmt: skip
    assert describe_agreement(agree(said[:2], "FAIL"), "FAIL").startswith("All 2 raters say accept")
    assert "the computed verdict is FAIL" in describe_agreement(agree(said[:1], "FAIL"), "FAIL")


def test_ratings_stand_at_the_verdict_in_their_section_and_in_the_text():
    view = rated(
        RatingView("<i>Ann</i>", "reject", KEY, ("out_of_focus",), "<script>x</script>", "2024-01-01"),
        RatingView("Bob", "accept", KEY),
    )  # fmt: skip
    page = examine(view)
    text = render_html(page)
    verdict = text[text.index('id="verdict"') : text.index('id="glance"')]
    section = text[text.index('<section id="rating"') : text.index('<section id="glossary"')]
    for part in (verdict, section):
        assert "2 raters disagree: 1 accept, 1 reject" in part
        assert "&lt;i&gt;Ann&lt;/i&gt;" in part
    assert "<i>Ann" not in text
    assert "out of focus (1 of 2)" in section
    assert "Rated by people: accept by Bob; reject by <i>Ann</i>." in " ".join(summarise_as_text(page).split())  # fmt: skip


def test_without_ratings_the_verdict_stands_alone():
    text = render_html(examine(empty_run()))
    assert "Rated by people" not in text
    assert "Nobody has rated this run yet." in text


def test_a_rating_file_that_cannot_be_read_is_told():
    text = render_html(examine(replace(empty_run(), rating_faults=("a.json: no JSON",))))
    assert "a.json: no JSON" in text


def test_the_form_has_every_choice_and_sends_nothing(tmp_path):
    text = render_html(examine(complete_run(tmp_path, slices=2, image=60)))
    form = text[text.index("<form") : text.index("</form>")]
    for name in (*RATINGS, *ARTEFACTS):
        assert f'value="{name}"' in form
    assert "action=" not in form
    assert '<button type="submit" hidden>' in form
    assert "<noscript>" in form
    assert "form-action 'none'" in text
    assert 'data-run="' + run_key(complete_run(tmp_path, slices=2, image=60)) in form
