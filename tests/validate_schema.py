"""Validates result files against docs/result.schema.json.

validate_schema.py SCHEMA FILE...            fails if a file breaks the schema
validate_schema.py SCHEMA --emitter PROGRAM  the same for what PROGRAM writes into a folder, and
                                             fails if the schema accepts one of the wrong copies
                                             made from it: a key less, a null, another name
validate_schema.py SCHEMA --run COMMAND...   the same for the file that COMMAND writes to the path
                                             after its -o
Exit status 77 if the module jsonschema is missing.
"""
import copy
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is not installed")
    sys.exit(77)


def load(path):
    def refuse(name):
        raise ValueError(f"{path}: {name} is not JSON")
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


def problem(validator, document):
    error = next(validator.iter_errors(document), None)
    return error and "/" + "/".join(map(str, error.absolute_path)) + ": " + error.message[:200]


def resolve(schema, part):
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return part


def places(schema, part, value, where=()):
    """Every place of a document with the part of the schema that rules it."""
    part = resolve(schema, part)
    if "anyOf" in part:
        if value is None:
            return
        part = resolve(schema, part["anyOf"][0])
    yield where, part
    if isinstance(value, dict):
        for key, inner in value.items():
            rule = part.get("properties", {}).get(key, part.get("additionalProperties"))
            if isinstance(rule, dict):
                yield from places(schema, rule, inner, where + (key,))
    elif isinstance(value, list) and "items" in part:
        for index, inner in enumerate(value):
            yield from places(schema, part["items"], inner, where + (index,))


def changed(document, where, change):
    """A copy in which `change` was applied to the container and key of one place."""
    wrong = copy.deepcopy(document)
    container = wrong
    for step in where[:-1]:
        container = container[step]
    change(container, where[-1])
    return wrong


def value_at(document, where):
    for step in where:
        document = document[step]
    return document


# Keys beside the contract's.
ADDED_TO_RUN = ("finished", "host", "cwd", "boot_id", "redacted")
ADDED_TO_LAB = ("question", "wall_ns", "warnings")
ADDED_TO_MATRIX = ("borders",)


def may_lack(where, key):
    if where == ("run",):
        return key in ADDED_TO_RUN
    if where[-1:] == ("matrix",):
        return key in ADDED_TO_MATRIX
    return len(where) == 2 and where[0] == "labs" and key in ADDED_TO_LAB


def wrong_copies(schema, document):
    for where, part in places(schema, schema, document):
        for key in part.get("properties", []):
            if key in value_at(document, where) and not may_lack(where, key):
                yield (f"without {key} in {where}",
                       changed(document, where + (key,), lambda box, name: box.pop(name)))
        if not where:
            continue
        if "enum" in part:
            yield (f"a wrong name at {where}",
                   changed(document, where, lambda box, name: box.update({name: "wrong"})))
        if part.get("type") in ("number", "integer"):
            def spoil(box, name):
                box[name] = None  # what a NaN becomes
            yield f"null at {where}", changed(document, where, spoil)


def check_emitter(schema, validator, program):
    failures = []
    controls = 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, folder], check=True)
        files = sorted(pathlib.Path(folder).iterdir())
        for path in files:
            document = load(path)
            if found := problem(validator, document):
                failures.append(f"{path.name}: {found}")
            for name, wrong in wrong_copies(schema, document):
                controls += 1
                if not problem(validator, wrong):
                    failures.append(f"{path.name} {name} was accepted")
        nan = pathlib.Path(folder, "nan.json")
        nan.write_text('{"schema": NaN}')
        try:
            load(nan)
            failures.append("a bare NaN was accepted")
        except ValueError:
            pass
    print(f"{len(files)} documents, {controls} wrong copies")
    return failures if files and controls > 200 else failures + ["too little was tried"]


def check_run(validator, command):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "result.json")
        subprocess.run([*command, "-o", path], check=True, stdout=subprocess.DEVNULL)
        document = load(path)
    found = problem(validator, document)
    labs = document["labs"]
    print(f"{len(labs)} labs, {sum(len(lab['series']) for lab in labs)} series")
    return [f"what {command[0]} wrote: {found}"] if found else []


def main(arguments):
    schema = load(arguments[0])
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    if arguments[1] == "--emitter":
        failures = check_emitter(schema, validator, arguments[2])
    elif arguments[1] == "--run":
        failures = check_run(validator, arguments[2:])
    else:
        failures = []
        for path in arguments[1:]:
            if found := problem(validator, load(path)):
                failures.append(f"{path}: {found}")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
