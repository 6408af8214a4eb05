"""The sentences of validation and test reports, prompts and phrases: made of training words, but none occurs in training."""

from __future__ import annotations

from msvl.data.phantom.grammar import Grammar, Wordings

HELD_OUT = Grammar(
    findings={
        "effusion": Wordings(
            positive=(
                "Pleural effusion is present on the {side}, {severity} in size.",
                "A {severity} amount of fluid is seen in the {side} pleural space.",
                "On the {side} there is a {severity} pleural effusion.",
                "{severity} pleural effusion at the {side} base.",
                "{severity} {side} effusion with blunting of the costophrenic angle.",
                "The {side} pleural space shows a {severity} effusion.",
            ),
            negative=(
                "No effusion is present.",
                "Pleural effusion is not seen.",
                "No fluid in the pleural spaces.",
                "Both pleural spaces are clear.",
                "There is no evidence of pleural fluid on either side.",
            ),
            phrases=(
                "pleural effusion on the {side} side",
                "{severity} effusion at the {side} base",
                "{severity} effusion in the {side} pleural space",
                "fluid at the {side} costophrenic angle",
            ),
        ),
        "pneumothorax": Wordings(
            positive=(
                "Pneumothorax is present on the {side}, {severity} in size.",
                "On the {side} there is a {severity} pneumothorax.",
                "A {severity} amount of air is seen in the {side} pleural space.",
                "{severity} pneumothorax at the {side} apex.",
                "The {side} pleural space shows a {severity} pneumothorax.",
                "{severity} {side} pneumothorax with a visible pleural line.",
            ),
            negative=(
                "No pneumothorax is present.",
                "Pneumothorax is not seen.",
                "No air in the pleural spaces.",
                "No visible pleural line on either side.",
                "There is no evidence of a pneumothorax on either side.",
            ),
            phrases=(
                "pneumothorax on the {side} side",
                "{severity} pneumothorax at the {side} apex",
                "{severity} pneumothorax in the {side} pleural space",
                "air in the pleural space on the {side}",
            ),
        ),
        "consolidation": Wordings(
            positive=(
                "Consolidation is present in the {side} {zone} zone, {severity} in size.",
                "In the {side} {zone} zone there is a {severity} consolidation.",
                "A {severity} area of consolidation is seen in the {side} {zone} lung.",
                "The {side} {zone} lung shows patchy consolidation.",
                "{severity} airspace consolidation, {side} {zone} zone.",
                "On the {side} there is a {severity} {zone} zone opacity in keeping with pneumonia.",
            ),
            negative=(
                "No consolidation is present.",
                "Consolidation is not seen.",
                "No airspace disease in either lung.",
                "There is no patchy opacity.",
                "No area of consolidation is seen in the lungs.",
            ),
            phrases=(
                "consolidation of the {side} {zone} lung",
                "{severity} opacity in the {zone} zone on the {side}",
                "area of consolidation in the {side} {zone} zone",
                "{side} {zone} zone airspace disease",
            ),
        ),
        "cardiomegaly": Wordings(
            positive=(
                "Cardiomegaly is present, {severity} in degree.",
                "{severely} increased heart size.",
                "The heart shows {severity} enlargement.",
                "There is a {severely} enlarged cardiac silhouette.",
                "{severity} enlargement of the cardiac silhouette.",
                "The size of the heart is {severely} increased.",
            ),
            negative=(
                "Normal cardiac size.",
                "Cardiomegaly is not present.",
                "The heart is within normal limits in size.",
                "No cardiac enlargement is present.",
                "The size of the heart is normal.",
            ),
            phrases=(
                "enlarged heart with {severity} cardiomegaly",
                "{severity} enlargement of the heart",
                "{severely} increased cardiac size",
                "cardiac enlargement, {severity} in degree",
            ),
        ),
        "nodule": Wordings(
            positive=(
                "A nodule is present in the {side} {zone} zone, {size} cm in size.",
                "In the {side} {zone} zone there is a round nodule.",
                "The {side} {zone} lung shows a solitary nodule of {size} cm.",
                "{severity} pulmonary nodule, {side} {zone} zone.",
                "A {severity} round lung nodule is seen in the {side} {zone} zone.",
                "On the {side} there is a {severity} nodule in the {zone} lung.",
            ),
            negative=(
                "No nodule is present.",
                "A nodule is not seen.",
                "No round opacity in either lung.",
                "There is no pulmonary nodule in the lungs.",
                "No solitary nodule is seen.",
            ),
            phrases=(
                "round nodule of the {side} {zone} lung",
                "{severity} nodule in the {zone} zone on the {side}",
                "well defined nodule in the {side} {zone} lung",
                "pulmonary nodule, {side} {zone} zone",
            ),
        ),
    },
    bilateral=(
        "On both sides there are pleural effusions.",
        "Bilateral effusions, {on_right} on the right and {on_left} on the left.",
        "Pleural fluid is present on both sides, {on_left} on the left side and {on_right} on the right side.",
        "Fluid is seen in both pleural spaces.",
    ),
    lists=("No {list} is present.", "There is no evidence of {list} in the chest.", "The chest is free of {list}."),
    clear=(
        "Both lungs are expanded and clear.",
        "The lungs are free of focal opacity.",
        "The lungs are clear on both sides.",
        "No focal opacity is present in the lungs.",
    ),
    others=(
        "The bones are normal.",
        "Normal mediastinum.",
        "The mediastinal contours are within normal limits.",
        "The trachea is normal.",
        "Normal hila.",
        "The visible bones are intact.",
    ),
    normal=(
        "No acute abnormality of the heart or lungs.",
        "No acute disease in the chest.",
        "The chest is normal.",
        "No significant cardiopulmonary abnormality.",
        "No evidence of acute cardiopulmonary disease.",
    ),
    summaries=("{list} is present.", "Findings in keeping with {list}.", "Chest radiograph with {list}."),
)
"""Validation and test reports, prompts, and phrases of their boxes."""
