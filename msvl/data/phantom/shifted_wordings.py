"""The telegraphic sentences of another hospital, made of training words."""

from __future__ import annotations

from msvl.data.phantom.grammar import Grammar, Wordings

SHIFTED = Grammar(
    findings={
        "effusion": Wordings(
            positive=(
                "{side} base, {severity} effusion.",
                "{side} pleural space not clear, {severity} fluid.",
                "Effusion {side}, {severity}.",
            ),
            negative=(
                "Pleural spaces clear.",
                "Effusion not visible.",
                "Costophrenic angles clear on both sides.",
            ),
            phrases=("effusion {side}, {severity}", "{side} base effusion"),
        ),
        "pneumothorax": Wordings(
            positive=(
                "{side} apex, {severity} pneumothorax.",
                "Pneumothorax {side}, {severity}.",
                "{side} lung partly collapsed, pleural air {severity}.",
            ),
            negative=(
                "Pneumothorax not visible.",
                "Lungs fully expanded on both sides.",
                "No pleural air.",
            ),
            phrases=("pneumothorax {side}, {severity}", "{side} apex pneumothorax"),
        ),
        "consolidation": Wordings(
            positive=(
                "{side} {zone} zone patchy and dense.",
                "Consolidation {side} {zone} zone, {severity}.",
                "Opacity {side} {zone}, pneumonia.",
            ),
            negative=(
                "Consolidation not visible.",
                "No pneumonia.",
                "No dense area in the lungs.",
            ),
            phrases=("consolidation {side} {zone} zone, {severity}", "opacity {side} {zone}"),
        ),
        "cardiomegaly": Wordings(
            positive=(
                "Heart {severely} enlarged.",
                "Cardiac enlargement, {severity}.",
                "Heart size increased, {severity} degree.",
            ),
            negative=("Heart not enlarged.", "Heart normal.", "Cardiac silhouette within limits."),
            phrases=("heart {severely} enlarged", "heart enlarged"),
        ),
        "nodule": Wordings(
            positive=(
                "Nodule {side} {zone} zone, {size} cm.",
                "{side} {zone} lung, round opacity {size} cm.",
                "{severity} nodule {side} {zone}.",
            ),
            negative=(
                "Nodules not visible.",
                "No round area in the lungs.",
                "Lungs free of nodules.",
            ),
            phrases=("nodule {side} {zone} zone, {size} cm", "{side} {zone} round opacity"),
        ),
    },
    bilateral=(
        "Effusions on both sides, left {on_left}, right {on_right}.",
        "Pleural fluid bilateral.",
    ),
    lists=("{list} not seen.", "Not present, {list}."),
    clear=("Lungs clear on both sides.", "Both lungs within limits, clear."),
    others=("Bones intact.", "Mediastinum normal.", "Trachea midline.", "Hila normal."),
    normal=("Chest normal.", "Chest, no acute disease.", "No disease."),
    summaries=("{list}.", "Chest with {list}."),
)
"""Reports of the shifted variant, whatever the split."""
