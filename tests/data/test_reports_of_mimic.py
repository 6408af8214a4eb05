"""What a splitter of MIMIC-CXR's reports must handle, one property per test, on made-up reports."""

from __future__ import annotations

import pytest

from msvl.data.config import ReportConfig
from msvl.data.reports import repeated_headings, split_sections
from msvl.data.sample import chosen_sentences, report_fields

RULE = "_" * 79


def sections(text: str) -> dict[str, str]:
    return {item.name: text[item.start : item.end] for item in split_sections(text)}


def read(text: str) -> list[str]:
    """Return the sentences that training reads."""
    config = ReportConfig()
    return chosen_sentences(report_fields(text), config.sections, config.min_words)


def test_the_line_final_report_heads_nothing_that_has_a_heading_of_its_own() -> None:
    assert sections(" FINAL REPORT\n EXAMINATION:  CHEST\n\n FINDINGS: Clear lungs.\n") == {
        "examination": "CHEST", "findings": "Clear lungs.",
    }  # fmt: skip


def test_a_report_below_final_report_without_any_heading_is_read() -> None:
    assert read(" FINAL REPORT\n The lungs are clear.\n\n No effusion.\n") == ["The lungs are clear.", "No effusion."]


def test_a_wet_read_with_its_signature_is_not_read() -> None:
    text = f" WET READ: ___ ___ ___ 3:04 PM\n  Large effusion on the left.\n {RULE}\n FINAL REPORT\n IMPRESSION:  Clear lungs.\n"
    assert read(text) == ["Clear lungs."]
    assert sections(text)["wet_read"].endswith("Large effusion on the left.")


def test_a_full_width_rule_closes_what_stands_above_the_report_and_is_no_mark() -> None:
    text = f" ADDENDUM: Discussed again.\n {RULE}\n The lungs are clear.\n"
    assert sections(text) == {"addendum": "Discussed again.", "final_report": "The lungs are clear."}
    assert read(text) == ["The lungs are clear."]
    assert sections(f"FINDINGS:\n {RULE}\n Clear lungs today.")["findings"] == "Clear lungs today."


def test_several_addenda_with_and_without_colon_are_not_read() -> None:
    text = f" ADDENDUM  The nodule is larger.\n {RULE}\n ADDENDUM: It is a mass.\n {RULE}\n FINAL REPORT\n FINDINGS: Clear lungs.\n"
    assert read(text) == ["Clear lungs."]
    assert [item.name for item in split_sections(text)] == ["preamble", "addendum", "findings"]


@pytest.mark.parametrize("heading", ["FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "FINDINGS / IMPRESSION"])
def test_merged_headings_stand_for_both(heading: str) -> None:
    assert read(f"{heading}: Clear lungs today.") == ["Clear lungs today."]


@pytest.mark.parametrize(
    "heading",
    [
        "PA AND LATERAL VIEWS",
        "CHEST, PA AND LATERAL",
        "CHEST, 2 VIEWS",
        "CHEST, TWO VIEWS",
        "PORTABLE AP CHEST, 4:05 A.M.",
    ],
)
def test_names_of_views_head_findings(heading: str) -> None:
    assert sections(f"{heading}:\n\n The lungs are clear.\n") == {"findings": "The lungs are clear."}


def test_a_title_without_text_is_no_section() -> None:
    assert sections("CHEST RADIOGRAPHS:\n\nFINDINGS:  Clear lungs.\nIMPRESSION:\n") == {"findings": "Clear lungs."}


def test_of_a_repeated_heading_the_last_is_read_and_it_can_be_counted() -> None:
    text = "IMPRESSION: Large effusion on the left.\nFINDINGS: Clear lungs.\nIMPRESSION: No effusion at all."
    assert read(text) == ["Clear lungs.", "No effusion at all."]
    assert repeated_headings(split_sections(text))
    assert not repeated_headings(split_sections("FINDINGS: Clear lungs.\nIMPRESSION: No effusion at all."))


def test_text_that_stands_under_comparison_alone_is_read_as_the_last_paragraph() -> None:
    text = "FINAL REPORT\nHISTORY: Cough.\n\nCOMPARISON:  ___.\n\nThe lungs are clear.\n\nNo effusion."
    assert sections(text) == {
        "history": "Cough.",
        "comparison": "___.",
        "last_paragraph": "The lungs are clear.\n\nNo effusion.",
    }
    assert read(text) == ["The lungs are clear.", "No effusion."]
    assert "last_paragraph" not in sections("COMPARISON: None.\n\nOf ___.\nFINDINGS: Clear lungs.")


@pytest.mark.parametrize(
    "text",
    [
        "IMPRESSION:\n1. Small effusion.\n2. No pneumothorax.",
        "IMPRESSION:\n1) Small effusion.\n\n2) No pneumothorax.",
        "IMPRESSION: 1. Small effusion. 2. No pneumothorax.",
        "IMPRESSION:\n- Small effusion.\n- No pneumothorax.",
    ],
)
def test_items_of_lists_are_sentences_without_their_numbers(text: str) -> None:
    assert read(text) == ["Small effusion.", "No pneumothorax."]


def test_hard_line_wraps_are_joined_and_blank_lines_end_paragraphs() -> None:
    assert read("FINDINGS:  The heart is\n enlarged today\n\n The lungs are\n clear.") == [
        "The heart is enlarged today", "The lungs are clear.",
    ]  # fmt: skip


def test_a_mark_alone_is_no_sentence_and_ends_none() -> None:
    assert read("FINDINGS: ___. Compared to ___, the lungs are clear. ___ ___.") == [
        "Compared to ___, the lungs are clear."
    ]


def test_slashes_in_the_indication_end_nothing() -> None:
    text = "INDICATION:  ___F with cough  // pneumonia?\n\nFINDINGS: Clear lungs."
    assert sections(text) == {"indication": "___F with cough  // pneumonia?", "findings": "Clear lungs."}


@pytest.mark.parametrize(
    "sentence",
    [
        "The tube seen by Dr. ___ at 3:04 is 2.5 cm above the carina.",
        "Edema vs. pneumonia is possible.",
        "An approx. 3 mm nodule is seen.",
        "Film of 4:05 a.m. shows no change.",
    ],
)
def test_times_doctors_decimals_and_abbreviations_end_no_sentence(sentence: str) -> None:
    assert read(f"FINDINGS: {sentence} The heart is normal.") == [sentence, "The heart is normal."]


@pytest.mark.parametrize(
    "sentence",
    [
        "Findings were discussed with Dr. ___ by telephone at 3:04 PM.",
        "Dr. ___ was paged at 15:04 on ___.",
        "These results were communicated to the referring physician.",
        "Recommend CT chest for further evaluation.",
        "Recommendation is repeat radiograph in 6 weeks.",
        "Follow-up radiographs are recommended to ensure resolution.",
        "Clinical correlation is suggested.",
    ],
)
def test_who_was_told_and_what_to_do_next_is_not_read(sentence: str) -> None:
    assert read(f"IMPRESSION: Small effusion. {sentence}") == ["Small effusion."]


@pytest.mark.parametrize("heading", ["NOTIFICATION", "RECOMMENDATION(S)", "RECOMMENDATION"])
def test_sections_of_notifications_and_recommendations_are_not_read(heading: str) -> None:
    assert read(f"IMPRESSION: Small effusion.\n\n{heading}:  Chest CT in three months.") == ["Small effusion."]


@pytest.mark.parametrize(
    "sentence",
    [
        "Nodule in the left lung for which chest CT is recommended.",
        "Suggestion of prominent interstitial markings.",
        "Repeat film shows no pneumothorax.",
    ],
)
def test_a_sentence_that_names_a_finding_stays(sentence: str) -> None:
    assert read(f"IMPRESSION: {sentence}") == [sentence]


def test_a_title_within_the_impression_is_passed_over() -> None:
    assert read("IMPRESSION:  AP chest compared to ___:\n\nThe lungs are clear.") == ["The lungs are clear."]


@pytest.mark.parametrize(
    "text",
    [
        "FINDINGS: Clear lungs.\nIMPRESSION:Normal chest.",
        " FINDINGS:Clear lungs.\n IMPRESSION: Normal chest.",
        "Findings: Clear lungs.\nImpression: Normal chest.",
        "findings : Clear lungs.\nimpression : Normal chest.",
        "FINDINGS: Clear lungs.\r\nIMPRESSION: Normal chest.\r\n",
        "FINDGINGS: Clear lungs.\nIMPRESSON: Normal chest.",
    ],
)
def test_headings_that_the_published_expression_misses(text: str) -> None:
    assert read(text) == ["Clear lungs.", "Normal chest."]


def test_two_headings_in_a_row() -> None:
    assert sections("FINDINGS:\n IMPRESSION: Normal chest.") == {"impression": "Normal chest."}


def test_windows_line_ends_change_nothing() -> None:
    text = f" ADDENDUM: Later.\n {RULE}\n FINAL REPORT\n COMPARISON: None.\n\n The heart is\n large.\n\n Clear lungs."
    assert read(text.replace("\n", "\r\n")) == read(text) == ["The heart is large.", "Clear lungs."]


@pytest.mark.evidence("Every section and sentence of a report is a stretch of its raw text, told by offsets", how="cpu")
def test_every_section_and_sentence_is_a_stretch_of_the_raw_text() -> None:
    from msvl.data.phantom.miniatures.material import draw_studies
    from msvl.data.phantom.miniatures.mimic_cxr_jpg import report

    for study in draw_studies(train=12, val=0, test=0, size=64):
        text = report(study)
        fields = report_fields(text)
        assert fields["report"] == text
        bounds = [(item["start"], item["end"]) for item in fields["sections"]]
        assert bounds == sorted(bounds) and all(a < b for a, b in bounds)
        assert all(first[1] <= second[0] for first, second in zip(bounds, bounds[1:], strict=False)), "sections overlap"
        for sentence in fields["sentences"]:
            section = next(
                s for s in fields["sections"] if s["start"] <= sentence["start"] and sentence["end"] <= s["end"]
            )
            assert section["name"] == sentence["section"]
        said = " ".join(" ".join(read(text)).split()).lower()
        assert all(word in said for word in study.findings.lower().rstrip(".").split())
