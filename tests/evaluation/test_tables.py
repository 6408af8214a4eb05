"""Tables for the terminal and as Markdown."""

from __future__ import annotations

from msvl.evaluation.tables import REPORTED, Table, as_markdown, as_text, finding_table, headline_table, word_columns

FIGURES = {
    "zero_shot": {
        "auc_mean": 0.9, "auc_mean_interval": [0.88, 0.92], "auc_mean_untrained": 0.5,
        "auc_mean_untrained_interval": [0.45, 0.55], "auc": {"nodule": 0.8, "pleural_effusion": 1.0},
        "auc_interval": {"nodule": [0.7, 0.9]}, "positives": {"nodule": 60, "pleural_effusion": 1200},
        "negatives": {"nodule": 540, "pleural_effusion": 9},
    },
    "retrieval": {"report_r5": 0.25, "report_r5_chance": 0.0083},
    "grounding": {"left_out": "no boxes"},
}  # fmt: skip


def test_headlines_stand_beside_untrained_and_chance() -> None:
    assert headline_table(FIGURES).rows == [
        ("Zero-shot AUC", "0.900", "[0.880, 0.920]", "0.500 [0.450, 0.550]", "0.500"),
        ("Report R@5", "0.250", "-", "-", "0.008"),
    ]


def test_findings_come_with_their_counts() -> None:
    assert finding_table(FIGURES).rows == [
        ("nodule", "60", "540", "0.800 [0.700, 0.900]"),
        ("pleural effusion", "1,200", "9", "1.000"),
    ]


def test_text_is_aligned() -> None:
    text = as_text(Table(("name", "n"), [("a", "10"), ("bcdef", "2")]))
    assert text == "name    n\n-----  --\na      10\nbcdef   2\n"


def test_markdown_has_a_rule() -> None:
    assert as_markdown(Table(("name", "n"), [("a", "10")])) == "| name | n |\n| --- | ---: |\n| a | 10 |\n"


def test_words_stand_left_and_numbers_right() -> None:
    table = Table(
        ("who", "data", "AUC", "source"), [("a", "RSNA", "-", "others"), ("b", "set 1", "71.4 [70.0, 72.0]", "we")]
    )
    assert word_columns(table) == [True, True, False, True]
    assert as_markdown(table).splitlines()[1] == "| --- | --- | ---: | --- |"


def test_every_reported_row_fits_its_columns() -> None:
    for table in REPORTED:
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
        assert table.rows[-1][0] == "paper's method"
