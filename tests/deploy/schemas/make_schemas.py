#!/usr/bin/env python3
"""Custom resource definitions to JSON schemas: make_schemas.py CRD.yaml ... writes them beside itself.

One file a kind and version, without descriptions and Kubernetes' own extensions; objects admit no
field that the definition does not name, so a misspelt one is found.
"""
import json
import pathlib
import sys

import yaml

DROPPED = ("description", "example", "default")


def strict(schema):
    """The schema without texts, closed to unknown fields where it lists its own."""
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key in DROPPED or key.startswith("x-kubernetes-") and key != "x-kubernetes-int-or-string":
            continue
        if key == "properties":
            out[key] = {name: strict(inner) for name, inner in value.items()}
        elif key in ("allOf", "anyOf", "oneOf"):
            out[key] = [{**inner} for inner in value]
        else:
            out[key] = strict(value)
    if out.pop("x-kubernetes-int-or-string", False):
        out.pop("type", None)
        out["type"] = ["integer", "string"]
    if "properties" in out and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


def main():
    for path in sys.argv[1:]:
        definition = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
        spec = definition["spec"]
        for version in spec["versions"]:
            if not version["served"]:
                continue
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            name = f"{spec['names']['kind'].lower()}-{version['name']}.json"
            target = pathlib.Path(__file__).with_name(name)
            target.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n",
                              encoding="utf-8")
            print(target.name, target.stat().st_size)


if __name__ == "__main__":
    main()
