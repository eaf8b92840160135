"""`POST /predict` as OpenAPI describes it."""

from typing import Any, get_args

from ducseg.serve.answers import KINDS, Included

__all__ = ["PREDICT", "RESPONSES"]

_STATUSES = {
    400: "no form, no picture in it, several, or zero bytes",
    408: "the picture took too long to arrive",
    413: "too many bytes or pixels",
    415: "no form, or a file that is no picture",
    422: "a picture that cannot be used, or an unknown answer",
    503: "full: try again after Retry-After seconds",
    504: "no answer in time",
}
_ANSWERS = ("image/png", "application/json", "application/geo+json")
_ERROR = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the answer", "content": {kind: {} for kind in _ANSWERS}},
    **{status: {"description": text, "content": _ERROR} for status, text in _STATUSES.items()},
}
"""By status."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "answer": {"type": "string", "enum": list(KINDS), "default": "labels", "description": "What to answer with."},
    "include": {
        "type": "array",
        "items": {"type": "string", "enum": list(get_args(Included))},
        "description": "PNGs inside the JSON, as base64.",
    },
}
PREDICT: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in _OPTIONS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {
                        "picture": {
                            "type": "string",
                            "format": "binary",
                            "description": "A PNG, JPEG, BMP, TIFF or WebP, in a field of any name.",
                        },
                        **_OPTIONS,
                    },
                }
            }
        },
    },
}
"""Its options, in the query or in the form, and its form."""
