"""The JSON schema of a study file."""

from __future__ import annotations

from typing import Any

from .config import StudyConfig

_ONE_OR_MORE = {"corpus", "encoder", "tracking", "protocol", "layer", "surface", "snr"}


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors that complete and check TOML."""
    schema = StudyConfig.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "study files whose values this one takes over and changes",
    }
    places = [schema, *schema["$defs"].values()]
    for name, one in ((n, p) for place in places for n, p in place["properties"].items()):
        # These take one value for a list of one, and some of them null.
        lists = [place for place in (one, *one.get("anyOf", ())) if place.get("type") == "array"]
        if name in _ONE_OR_MORE and lists:
            (place,) = lists
            array = {key: place.pop(key) for key in ("type", "items", "minItems") if key in place}
            others = [other for other in one.get("anyOf", ()) if other]
            one["anyOf"] = [array["items"], array, *others]
    return schema
