#!/usr/bin/env python3
"""Writes protobuf.txt from the fields of the protobuf messages of Kubernetes and its OpenAPI v3 documents.

    generate_protobuf.py REFERENCE_DIRECTORY      (holds protobuf-fields.tsv and openapi-v3/*.json)

See README.md for the format. The messages that a definition of the documents stands for are written, with the messages
that they use. Names of JSON fields come from the documents; a field that they do not have is an inlined struct.
"""
import csv
import pathlib
import sys

from generate import load, presence

# Messages that are no definition of the documents and that no definition uses.
EXTRA = [
    f"k8s.io.apimachinery.pkg.apis.meta.v1.{name}"
    for name in ("CreateOptions", "GetOptions", "ListOptions", "PartialObjectMetadata", "PartialObjectMetadataList",
                 "PatchOptions", "UpdateOptions")
] + ["k8s.io.apimachinery.pkg.apis.meta.v1beta1.PartialObjectMetadataList"]

# Messages whose JSON is not an object with their fields.
FORMS = {
    "apis.meta.v1.Time": "time",
    "apis.meta.v1.MicroTime": "microtime",
    "api.resource.Quantity": "quantity",
    "util.intstr.IntOrString": "int-or-string",
    "pkg.runtime.RawExtension": "embedded",
    "apis.meta.v1.FieldsV1": "json",
    "apiextensions.v1.JSON": "json",
    "apiextensions.v1.JSONSchemaPropsOrArray": "schema-or-list",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "schema-or-list",
    "apiextensions.v1.JSONSchemaPropsOrBool": "schema-or-bool",
}
SCALARS = {"string", "int32", "int64", "bool", "double", "bytes"}


def read(reference):
    messages = {}
    with open(f"{reference}/protobuf-fields.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            fields = messages.setdefault(f"{row['package']}.{row['message']}", [])
            if row["number"]:
                fields.append((int(row["number"]), row["field"], row["label"], row["type"]))
    return messages


def definition_of(message):
    """`io.k8s.api.core.v1.Pod`, as the documents write it."""
    name = "io.k8s." + message.removeprefix("k8s.io.")
    return name.replace("apiextensions_apiserver", "apiextensions-apiserver").replace("kube_aggregator", "kube-aggregator")


def full_name(word, package):
    """The full name of a type that a message of `package` names; `None` for scalars."""
    if word in SCALARS:
        return None
    return word.removeprefix(".") if "." in word else f"{package}.{word}"


def parts_of(label, word, package):
    """What stands around the type (`[]`, `{}` or nothing), the scalar, and the full name of the message."""
    around = {"repeated": "[]", "map": "{}", "optional": ""}[label]
    if label == "map":
        key, word = word.removeprefix("map<").removesuffix(">").split(", ")
        assert key == "string", word
    return around, word, full_name(word, package)


def form_of(message, fields):
    for end, form in FORMS.items():
        if message.endswith("." + end):
            return form
    if [(name, label, word) for _, name, label, word in fields] == [("items", "repeated", "string")]:
        return "list"
    return None


def json_name(field, properties):
    """The name of the field in JSON; `None` when there is none."""
    dashed = "".join("-" + c.lower() if c.isupper() else c for c in field)
    folded = {name.lower(): name for name in properties}
    for name in (field, folded.get(field.lower()), dashed, f"${field}"):
        if name in properties:
            return name
    return None


def field_line(message, owner, definitions, field):
    number, name, label, word = field
    package = message.rsplit(".", 1)[0]
    around, scalar, target = parts_of(label, word, package)
    shown = scalar
    if target:
        near = target.rsplit(".", 1)[0] == package
        shown = "#" + (target.rsplit(".", 1)[1] if near else definition_of(target))
    schema = definitions.get(owner)
    properties = schema.get("properties", {}) if schema else None
    known = name if properties is None else json_name(name, properties)
    assert known or (target and not around), (message, name)
    line = f" {number} {known or '+'} {around}{shown}"
    if properties and known and label == "optional" and not target:
        if presence(owner, known, properties[known], known in schema.get("required", [])) == "keep":
            line += " keep"
    return line, None if known else target


def lines(messages, definitions):
    names = [name for name in messages if definition_of(name) in definitions] + EXTRA
    owners = {name: definition_of(name) for name in names}
    for name in names:
        package = name.rsplit(".", 1)[0]
        form = form_of(name, messages[name])
        out = []
        for field in sorted(messages[name]) if form is None or form.startswith("schema") else []:
            owner = None if form else owners[name]
            line, inlined = field_line(name, owner, definitions, field)
            out.append(line)
            target = parts_of(field[2], field[3], package)[2]
            if target and target not in owners:
                names.append(target)
                owners[target] = owners[name] if inlined else definition_of(target)
        yield "\n".join([definition_of(name) + (f" {form}" if form else "")] + out)


def main():
    reference = sys.argv[1]
    found = sorted(lines(read(reference), load(reference)), key=lambda text: text.split()[0])
    (pathlib.Path(__file__).parent / "protobuf.txt").write_text("\n".join(found) + "\n")


if __name__ == "__main__":
    main()
