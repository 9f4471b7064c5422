"""The manifests as `kubectl kustomize` renders them, and what tests ask of them."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent / "k8s"
OVERLAYS = sorted(path.parent.name for path in ROOT.glob("overlays/*/kustomization.yaml"))

type Object = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay."""
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    assert kubectl, "the development dependencies bring kubectl"
    command = [kubectl, "kustomize", str(ROOT / "overlays" / overlay)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(text))


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [each for each in rendered(overlay) if each["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Object:
    [found] = [each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name]
    return found


def title(each: Object) -> str:
    return f"{each['kind']}/{each['metadata']['name']}"


def pods(overlay: str) -> Iterator[tuple[str, dict[str, str], Object]]:
    """Title of the owner, labels, and spec of every pod; of operators' pods with the labels that they add."""
    for each in rendered(overlay):
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "Job" | "DaemonSet":
                template = each["spec"]["template"]
                yield title(each), template["metadata"]["labels"], template["spec"]
            case "CronJob":
                template = each["spec"]["jobTemplate"]["spec"]["template"]
                yield title(each), template["metadata"]["labels"], template["spec"]
            case "ClickHouseInstallation" | "ClickHouseKeeperInstallation":
                group = each["apiVersion"].partition("/")[0]
                key = "chi" if each["kind"] == "ClickHouseInstallation" else "chk"
                added = {f"{group}/{key}": each["metadata"]["name"], f"{group}/ready": "yes"}
                for template in each["spec"]["templates"]["podTemplates"]:
                    yield title(each), template["metadata"]["labels"] | added, template["spec"]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def environment(overlay: str, container: Object) -> tuple[dict[str, str], set[str]]:
    """The variables of a container whose values the manifests give, and the names of those that come from elsewhere."""
    values: dict[str, str] = {}
    elsewhere: set[str] = set()
    for source in container.get("envFrom", []):
        values |= named(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            values[variable["name"]] = variable["value"]
        else:
            elsewhere.add(variable["name"])
    return values, elsewhere
