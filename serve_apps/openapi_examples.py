"""The examples that `/docs` shows."""

from __future__ import annotations

from typing import Any

_ADAPTER = "0f3b9c1d2e4a5b6c"
_SENTENCE = {
    "start_char": 0,
    "end_char": 36,
    "language": "de",
    "adapter": _ADAPTER,
    "composition": "selection",
    "ranking": [["de", 0.81], ["nl", 0.12], ["en", 0.07]],
    "margin": 0.69,
    "examples_dropped": 0,
}
_RESULT = {
    "entities": [
        {"start_char": 0, "end_char": 12, "text": "Anna Seghers", "label": "PER", "score": 0.97},
        {"start_char": 22, "end_char": 27, "text": "Mainz", "label": "LOC", "score": 0.95},
    ],
    "sentences": [_SENTENCE],
}
_TEXT = "Anna Seghers wurde in Mainz geboren."

TAG_ANSWER = {"release": 7, "results": [_RESULT]}
LANGUAGES_ANSWER = {
    "release": 7,
    "languages": [{"language": "de", "labels": ["PER", "LOC", "ORG"], "examples": True}],
}

TAG_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "examples": {
                    "texts": {"summary": "texts", "value": {"texts": [_TEXT, "She lived in Mexico."]}},
                    "pinned": {
                        "summary": "an id, a pinned language, only people, with the retrieved examples",
                        "value": {
                            "texts": [{"text": _TEXT, "id": "doc-1", "language": "de"}],
                            "labels": ["PER"],
                            "min_score": 0.5,
                            "explain": True,
                        },
                    },
                }
            }
        }
    }
}

_TAUGHT = {
    "text": _TEXT,
    "language": "de",
    "entities": [
        {"start_char": 0, "end_char": 12, "label": "PER"},
        {"start_char": 22, "end_char": 27, "label": "LOC"},
    ],
}
_TAUGHT_ID = "5d0c1e7a9b3f2468"
TEACH_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "examples": {"one": {"summary": "one sentence", "value": {"examples": [_TAUGHT]}}}
            }
        }
    }
}
TEACH_ANSWER = {"taught_seq": "12.3", "examples": [{"id": _TAUGHT_ID, "status": "added"}]}
EXAMPLES_ANSWER = {
    "taught_seq": "12.3",
    "examples": [{"id": _TAUGHT_ID, **_TAUGHT, "created_at": "2026-01-01T12:00:00+00:00"}],
    "next": None,
}

_NDJSON = "application/x-ndjson"
STREAM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _NDJSON: {
                "schema": {"type": "string", "description": "One JSON value a line: a string or an object."},
                "example": f'"{_TEXT}"\n{{"text": "She lived in Mexico.", "id": "2", "language": "en"}}\n',
            }
        },
    }
}
STREAM_ANSWER: dict[str, Any] = {
    "description": "One JSON object a line: a result of `POST /v1/tag` with `line` and `release`, or"
    " `line` and `error`.",
    "content": {
        _NDJSON: {
            "schema": {"type": "string"},
            "example": '{"line":1,"release":7,"entities":[],"sentences":[]}\n'
            '{"line":2,"error":{"code":"unknown_language","message":"…","what_to_do":"…"}}\n',
        }
    },
}


def example(body: dict[str, Any]) -> dict[str, Any]:
    """Returns an example as OpenAPI's responses take it."""
    return {"content": {"application/json": {"example": body}}}
