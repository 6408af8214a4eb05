"""The sentences of the phantom's reports: three grammars over one vocabulary.

`TRAINING` writes training reports. `HELD_OUT` writes validation and test reports, prompts and grounding phrases: other
sentences made of the same words, so that nothing is judged on a sentence seen in training. `SHIFTED` is the telegraphic
style of another hospital. Slots: {side}, {zone}, {severity}, {severely} (adverb), {size} in cm, {noun}; bilateral
effusions have {on_left} and {on_right}.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Wordings:
    """What one grammar can say about one finding."""

    positive: tuple[str, ...]
    """Sentences when it is there."""
    negative: tuple[str, ...]
    """Sentences when it is not."""
    phrases: tuple[str, ...]
    """Noun phrases for impressions and boxes."""


@dataclass(frozen=True)
class Grammar:
    """One way of writing reports."""

    findings: dict[str, Wordings]
    bilateral: tuple[str, ...]
    """Sentences about fluid on both sides."""
    lists: tuple[str, ...]
    """Negations of several findings, with {list}."""
    clear: tuple[str, ...]
    """Sentences that deny consolidation and nodule at once."""
    others: tuple[str, ...]
    """Normal structures without a label."""
    normal: tuple[str, ...]
    """Impressions of a normal study."""
    summaries: tuple[str, ...]
    """Impressions of a study with findings, with {list}."""

    def as_dict(self) -> dict[str, Any]:
        """Return the tables as JSON values."""
        return asdict(self)


NOUNS = {
    "effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation", "focal consolidation", "airspace opacity"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
}
"""Names of findings in lists and in the {noun} slot."""

SEVERITY = {"small": "small", "moderate": "moderate", "large": "large"}
HEART_SEVERITY = {"small": "mild", "moderate": "moderate", "large": "severe"}
HEART_ADVERB = {"small": "mildly", "moderate": "moderately", "large": "severely"}

TRAINING = Grammar(
    findings={
        "effusion": Wordings(
            positive=(
                "There is a {severity} {side} pleural effusion.",
                "There is a {side} pleural effusion.",
                "{side} pleural effusion.",
                "{severity} {side} pleural effusion.",
                "{severity} {noun} on the {side}.",
                "A {severity} {side} pleural effusion is present.",
                "A {severity} effusion is seen on the {side} side.",
                "The {side} costophrenic angle is blunted by a {severity} effusion.",
                "Blunting of the {side} costophrenic angle is consistent with pleural fluid.",
                "{severity} amount of {side} pleural fluid.",
                "Fluid in the {side} pleural space, {severity} in size.",
                "The {side} lower zone is dense, in keeping with a {severity} pleural effusion.",
                "{side} sided pleural effusion, {severity} in amount.",
                "Pleural fluid layers at the {side} base.",
            ),
            negative=(
                "No pleural effusion.",
                "No effusion.",
                "There is no pleural effusion.",
                "No pleural fluid is seen.",
                "The costophrenic angles are sharp.",
                "No evidence of pleural effusion.",
                "Both costophrenic angles are clear.",
                "The pleural spaces are free of fluid.",
                "There is no blunting of the costophrenic angles.",
            ),
            phrases=(
                "{severity} {side} pleural effusion",
                "{side} pleural effusion",
                "{severity} {side} effusion",
                "{side} sided {noun}",
                "{severity} pleural fluid on the {side}",
            ),
        ),
        "pneumothorax": Wordings(
            positive=(
                "There is a {severity} {side} pneumothorax.",
                "There is a {side} pneumothorax.",
                "{side} pneumothorax.",
                "{severity} {side} pneumothorax.",
                "{severity} pneumothorax on the {side}.",
                "A {severity} {side} apical pneumothorax is present.",
                "A {severity} pneumothorax is seen on the {side} side.",
                "The {side} lung is partly collapsed by a {severity} pneumothorax.",
                "A {side} pleural line is visible, consistent with a {severity} pneumothorax.",
                "Air in the {side} pleural space at the apex.",
                "{side} sided pneumothorax, {severity} in size.",
                "No lung markings are seen beyond the {side} pleural line, in keeping with a pneumothorax.",
                "Partial collapse of the {side} lung with a {severity} pneumothorax.",
            ),
            negative=(
                "No pneumothorax.",
                "There is no pneumothorax.",
                "No pneumothorax is seen.",
                "No evidence of pneumothorax.",
                "No pleural line is visible.",
                "There is no air in the pleural space.",
                "Both lungs are fully expanded.",
                "Lung markings reach the chest wall on both sides.",
            ),
            phrases=(
                "{severity} {side} pneumothorax",
                "{side} pneumothorax",
                "{side} apical pneumothorax",
                "{side} sided pneumothorax",
                "{severity} pneumothorax on the {side}",
            ),
        ),
        "consolidation": Wordings(
            positive=(
                "There is {side} {zone} zone consolidation.",
                "There is a {severity} consolidation in the {side} {zone} zone.",
                "{side} {zone} zone consolidation.",
                "Consolidation in the {side} {zone} lung.",
                "A {severity} airspace opacity is seen in the {side} {zone} zone.",
                "{severity} {side} {zone} zone opacity, consistent with pneumonia.",
                "Patchy opacity in the {side} {zone} zone.",
                "A patchy {side} {zone} lung consolidation is present.",
                "The {side} {zone} zone shows a {severity} patchy opacity.",
                "Dense airspace opacity of the {side} {zone} lung, in keeping with pneumonia.",
                "Focal consolidation on the {side}, {severity} in size.",
                "{severity} area of {noun} in the {zone} zone on the {side}.",
                "Airspace disease is seen in the {side} {zone} lung.",
                "{side} {zone} zone pneumonia.",
            ),
            negative=(
                "No consolidation.",
                "There is no consolidation.",
                "No focal consolidation is seen.",
                "No evidence of pneumonia.",
                "No airspace opacity.",
                "There is no focal airspace disease.",
                "No patchy opacity in either lung.",
                "Both lungs are free of consolidation.",
            ),
            phrases=(
                "{side} {zone} zone consolidation",
                "{severity} {side} {zone} zone consolidation",
                "{side} {zone} lung opacity",
                "{noun} in the {side} {zone} zone",
                "patchy {side} {zone} zone opacity",
            ),
        ),
        "cardiomegaly": Wordings(
            positive=(
                "The heart is enlarged.",
                "The heart is {severely} enlarged.",
                "There is {severity} cardiomegaly.",
                "There is {severity} cardiac enlargement.",
                "Cardiomegaly.",
                "{severity} cardiomegaly.",
                "{severity} cardiomegaly is present.",
                "The cardiac silhouette is {severely} enlarged.",
                "Enlargement of the heart, {severity} in degree.",
                "The heart size is {severely} increased.",
                "The cardiothoracic ratio is {severely} increased.",
                "Enlarged cardiac silhouette, in keeping with {severity} cardiomegaly.",
                "Cardiac size is increased.",
            ),
            negative=(
                "The heart is normal in size.",
                "Heart size is normal.",
                "No cardiomegaly.",
                "The cardiac silhouette is normal.",
                "There is no cardiomegaly.",
                "The heart is not enlarged.",
                "Normal heart size.",
                "The cardiothoracic ratio is within normal limits.",
                "Cardiac size is within normal limits.",
            ),
            phrases=(
                "{severity} cardiomegaly",
                "cardiomegaly",
                "{severely} enlarged heart",
                "enlarged cardiac silhouette",
                "{severity} cardiac enlargement",
            ),
        ),
        "nodule": Wordings(
            positive=(
                "There is a {side} {zone} zone nodule.",
                "There is a {size} cm nodule in the {side} {zone} zone.",
                "{side} {zone} zone nodule.",
                "A {severity} nodule is seen in the {side} {zone} lung.",
                "A nodule of {size} cm is present in the {side} {zone} zone.",
                "{severity} round nodule in the {side} {zone} zone.",
                "A round opacity of {size} cm in the {side} lung is consistent with a nodule.",
                "Solitary pulmonary nodule in the {side} {zone} zone.",
                "The {side} {zone} zone shows a {severity} nodule.",
                "{side} {zone} lung nodule measuring {size} cm.",
                "A well defined {severity} nodule on the {side}.",
                "Round lung nodule, {side} {zone} zone.",
                "A solitary nodule is seen in the {zone} zone on the {side} side.",
            ),
            negative=(
                "No nodule.",
                "There is no nodule.",
                "No lung nodule is seen.",
                "No evidence of a pulmonary nodule.",
                "No pulmonary nodule.",
                "There is no round opacity.",
                "Both lungs are free of nodules.",
                "No nodules in either lung.",
            ),
            phrases=(
                "{side} {zone} zone nodule",
                "{severity} {side} {zone} lung nodule",
                "nodule in the {side} {zone} zone",
                "{size} cm nodule in the {side} {zone} zone",
                "solitary {side} {zone} zone nodule",
            ),
        ),
    },
    bilateral=(
        "Bilateral pleural effusions.",
        "There are bilateral pleural effusions.",
        "Bilateral pleural effusions, {on_left} on the left and {on_right} on the right.",
        "Effusions are present on both sides, {on_right} on the right and {on_left} on the left.",
        "{on_right} right and {on_left} left pleural effusions.",
        "Blunting of both costophrenic angles is consistent with bilateral effusions.",
    ),
    lists=(
        "No {list}.",
        "There is no {list}.",
        "No evidence of {list}.",
        "There is no evidence of {list}.",
        "No {list} is seen.",
    ),
    clear=(
        "The lungs are clear.",
        "Both lungs are clear.",
        "Lungs are clear.",
        "No focal opacity in either lung.",
        "The lungs are well expanded and clear.",
        "There is no focal lung opacity.",
    ),
    others=(
        "The bones are intact.",
        "The mediastinal contours are normal.",
        "The trachea is in the midline.",
        "No acute bony abnormality.",
        "The visible bones are normal.",
        "The mediastinum is within normal limits.",
        "Normal pulmonary vessels.",
        "The hila are normal.",
    ),
    normal=(
        "No acute cardiopulmonary abnormality.",
        "No acute cardiopulmonary disease.",
        "Normal chest.",
        "Normal chest radiograph.",
        "No acute abnormality.",
        "No acute disease of the heart or lungs.",
        "No significant abnormality is present in the chest.",
    ),
    summaries=("{list}.", "{list}.", "{list}.", "Findings are consistent with {list}."),
)
"""Training reports."""

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

GRAMMARS = {"training": TRAINING, "held_out": HELD_OUT, "shifted": SHIFTED}
"""Name -> grammar."""
