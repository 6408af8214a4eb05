"""One number for everything about the phantom that is frozen."""

from __future__ import annotations

import hashlib
import json

from msvl.data.phantom.grammar import HEART_ADVERB, HEART_SEVERITY, NOUNS, SEVERITY
from msvl.data.phantom.parameters import VARIANTS
from msvl.data.phantom.prose import GRAMMARS


def parameters_digest() -> str:
    """Return the SHA-256 (hexadecimal) over the parameters of both variants and the tables of the grammars."""
    content = {
        "variants": {name: parameters.as_dict() for name, parameters in VARIANTS.items()},
        "grammars": {name: grammar.as_dict() for name, grammar in GRAMMARS.items()},
        "words": [NOUNS, SEVERITY, HEART_SEVERITY, HEART_ADVERB],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
