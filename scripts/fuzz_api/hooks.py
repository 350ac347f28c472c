"""What the fuzzer must know of `cf-mysql-broker dev` to get past its front door.

docs/openapi.yml says what a platform may send: any id, for example. Of random ids no two are alike and no plan has one, so that nothing
but refusals would be seen. Here the schemas are narrowed to values that meet: the examples of the document.
"""

import atexit
import collections
import sys

import schemathesis

# Nothing but the examples: others are refused.
KNOWN = ["ServiceId", "PlanId"]
# The examples, or nothing.
KNOWN_OR_NONE = ["OptionalServiceId", "OptionalPlanId"]
# The examples most of the time, so that operations meet; otherwise anything.
OFTEN_KNOWN = ["InstanceId", "BindingId", "OwnerGuid", "OptionalGuid"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    for name in KNOWN:
        schemas[name] = {"enum": schemas[name]["examples"]}
    for name in KNOWN_OR_NONE:
        schemas[name] = {"enum": [*schemas[name]["examples"], None, ""]}
    for name in OFTEN_KNOWN:
        # the document counts characters, the broker bytes
        free = {**schemas[name], "maxLength": 255 // 4}
        schemas[name] = {"anyOf": [*({"const": example} for example in free.pop("examples")), free]}
    # of the known instances only the last is ever deleted at random, or there would be none with bindings
    instance = raw_schema["paths"]["/v2/service_instances/{instance_id}"]
    schema = {"anyOf": schemas["InstanceId"]["anyOf"][-2:]}
    instance["delete"]["parameters"].append({"name": "instance_id", "in": "path", "required": True, "schema": schema})
    # pairs that every server has
    schemas["Charset"] = {"enum": ["utf8mb4"]}
    schemas["Collation"] = {"enum": ["utf8mb4_bin", "utf8mb4_unicode_ci"]}


@schemathesis.hook
def filter_path_parameters(context, path_parameters):
    # a list in place of an id is sent as its members, which are an id, and nothing is wrong with that
    return not any(isinstance(value, (list, dict)) for value in (path_parameters or {}).values())


answers = collections.Counter()


@schemathesis.hook
def after_call(context, case, response):
    method = case.method.upper()
    known = method == case.operation.method.upper()
    operation = case.operation.definition.raw["operationId"] if known else "(another method)"
    answers[operation, response.status_code] += 1


@atexit.register
def tell():
    """How deep it got: a line per operation, the statuses it was answered with and how often."""
    print(f"\n{answers.total()} answers:", file=sys.stderr)
    for operation in sorted({operation for operation, _ in answers}):
        statuses = sorted((status, count) for (name, status), count in answers.items() if name == operation)
        print(f"  {operation:<18}" + "  ".join(f"{status}: {count}" for status, count in statuses), file=sys.stderr)
