# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is made of the chart and of the service's settings: ``make chart`` writes it.

The settings in values.schema.json, the table in the chart's README, and deploy/kubernetes, which is
what ``helm template`` gives for deploy/chart/ci/cluster-values.yaml.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.serving.settings import FIELDS, VARIABLES, ServiceSettings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "chart"
MANIFESTS = ROOT / "deploy" / "kubernetes"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RELEASE = ("recommendations", "--namespace", "recommendations")
# what other values of the chart say, or the image's command
ELSEWHERE = frozenset(
    f"SERVING_{name}"
    for name in (
        *("YAML", "DATA", "EPOCH", "EXPORT", "KEPT", "KEYS", "OPEN", "HOSTS", "CORS"),
        *("HISTORIES", "SHOWN_SECRET", "INSERT_MISSING"),
    )
)
OPTIONS = "Settings over the export's own, as -o takes them: `milvus.collection=items`."
NUMBERS = {"type", "minimum", "maximum", "exclusiveMinimum", "enum"}


def settings_schema() -> dict[str, Any]:
    """The value ``settings`` as JSON schema, with the docstrings of the service's settings."""
    fields = ServiceSettings.model_json_schema()["properties"]
    properties: dict[str, Any] = {"SERVING_OPTIONS": {"type": "string", "description": OPTIONS}}
    for variable in VARIABLES:
        if variable in ELSEWHERE or variable not in FIELDS:
            continue
        field = fields[FIELDS[variable]]
        kind = next(one for one in field.get("anyOf", [field]) if one.get("type") != "null")
        text = " ".join(field.get("description", "").split()).replace("``", "`")
        properties[variable] = {
            **{key: value for key, value in kind.items() if key in NUMBERS},
            "description": text,
        }
    return properties


def values_schema() -> str:
    """values.schema.json with the settings as they are now, a line for each."""
    lines = [
        f"        {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}"
        for name, entry in settings_schema().items()
    ]
    head = (
        '    "settings": {\n      "type": "object",\n      "additionalProperties": false,\n'
        '      "description": "Further variables `SERVING_…` of the service.",\n'
        '      "properties": {\n'
    )
    block = head + ",\n".join(lines) + '\n      }\n    },\n    "service": {'
    schema = (CHART / "values.schema.json").read_text(encoding="utf-8")
    return re.sub(
        r' {4}"settings": \{.*?\n?    "service": \{', lambda _: block, schema, flags=re.DOTALL
    )


def _rows(schema: Mapping[str, Any], values: Any, name: str = "") -> Iterator[str]:
    for key, entry in schema["properties"].items():
        full = f"{name}.{key}" if name else key
        if key == "global":
            continue
        if "properties" in entry and full != "settings":
            yield from _rows(entry, values[key], full)
        else:
            default = json.dumps(values[key], ensure_ascii=False).replace("|", "\\|")
            yield f"| `{full}` | `{default}` | {entry['description']} |"


def readme() -> str:
    """The chart's README with a row for each value and each setting."""
    schema = json.loads(values_schema())
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    settings = schema["properties"]["settings"]["properties"]
    tables = {
        "values": ["| value | default | is |", "| --- | --- | --- |", *_rows(schema, values)],
        "settings": [
            *("| `settings.` | is |", "| --- | --- |"),
            *(f"| `{name}` | {one['description']} |" for name, one in settings.items()),
        ],
    }
    text = (CHART / "README.md").read_text(encoding="utf-8")
    for name, rows in tables.items():
        marks = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        table = "\n".join(rows).join(("\n", "\n\n")).join(marks)
        text = re.sub(f"{marks[0]}.*?{marks[1]}", lambda _, t=table: t, text, flags=re.DOTALL)
    return text


def manifests(helm: str) -> dict[str, str]:
    """What ``helm template`` gives, by the name of the template that it comes from."""
    values = CHART / "ci" / "cluster-values.yaml"
    command = [helm, "template", *RELEASE, str(CHART), "--values", str(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    files: dict[str, str] = {}
    for document in re.split(r"^---\n", done.stdout, flags=re.MULTILINE):
        if source := re.match(r"# Source: .*/templates/(.*)\n", document):
            files[source[1]] = files.get(source[1], "") + "---\n" + document
    return files


def main() -> int:
    """Write all of it; 1 where there is no helm."""
    (CHART / "values.schema.json").write_text(values_schema(), encoding="utf-8")
    (CHART / "README.md").write_text(readme(), encoding="utf-8")
    if ALERTS.exists():
        shutil.copyfile(ALERTS, CHART / "alerts.yml")
    helm = shutil.which("helm")
    if helm is None:
        print("no helm: deploy/kubernetes stays as it is; .ci/deploy_tools gets one")
        return 1
    files = manifests(helm)
    for file in MANIFESTS.glob("*.yaml"):
        file.unlink()
    for name, text in files.items():
        (MANIFESTS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
