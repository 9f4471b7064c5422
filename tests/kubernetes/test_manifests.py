"""Every overlay renders, is valid, and keeps what the design stands on."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import kubernetes_validate
import pytest
import yaml

from contracts import streams
from deploy import manifest_settings
from services.runtime.settings import load, variables
from services.ssh_worker.settings import WorkerSettings
from services.ssh_worker.worker import LAST_SECONDS
from tests.kubernetes.rendered import OVERLAYS, ROOT, Object, environment, named, of_kind, pods, rendered, selects, title

KUBERNETES = "1.37"
SCHEMAS = Path(__file__).parent / "schemas"
OURS = {"session-api": "session-api", "ssh-worker": "ssh-worker", "audit": "audit", "migrate": "audit"}
"""The settings that a container of ours reads."""

MARGIN_SECONDS = 30.0

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def validate(each: Object) -> None:
    kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_the_overlays_are_there() -> None:
    assert OVERLAYS == ["dev", "external", "production"]


@every_overlay
def test_every_object_is_valid(overlay: str) -> None:
    for each in rendered(overlay):
        schema = SCHEMAS / f"{each['kind']}.json"
        if not schema.exists():
            validate(each)
            continue
        jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(each)
        for template in each["spec"].get("templates", {}).get("podTemplates", []):
            validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]})
        for template in each["spec"].get("templates", {}).get("volumeClaimTemplates", []):
            claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x"}, "spec": template["spec"]}
            validate(claim)


def test_a_field_that_does_not_exist_is_found() -> None:
    wrong = json.loads(json.dumps(named("dev", "Deployment", "session-api")))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(wrong)


@every_overlay
def test_names_are_unique_and_in_our_namespace(overlay: str) -> None:
    names = [title(each) for each in rendered(overlay)]
    assert len(names) == len(set(names))
    cluster_wide = {"Namespace", "PriorityClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    for each in rendered(overlay):
        assert (each["metadata"].get("namespace") == "vsay") == (each["kind"] not in cluster_wide), title(each)


@every_overlay
def test_every_pod_is_restricted(overlay: str) -> None:
    """As the Pod Security Standard `restricted` says, and our own containers can write nowhere but to /tmp."""
    for owner, _, spec in pods(overlay):
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, owner
        assert pod["runAsUser"] > 0, owner
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), owner
        allowed = {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"}
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= allowed, (owner, volume)
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, owner
            assert security["capabilities"] == {"drop": ["ALL"]}, owner
            assert not security.get("privileged"), owner
            if "clickhouse.altinity.com" not in str(spec) and container["name"] in OURS:
                assert security["readOnlyRootFilesystem"] is True, owner
    labels = named(overlay, "Namespace", "vsay")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@every_overlay
def test_every_container_says_what_it_needs_and_which_version_it_is(overlay: str) -> None:
    for owner, _, spec in pods(overlay):
        for container in spec["containers"]:
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}, owner
            assert "memory" in resources["limits"], owner
            tag = container["image"].rpartition(":")[2]
            assert tag[0].isdigit(), container["image"]


@every_overlay
def test_only_workers_may_ask_kubernetes_and_only_for_one_thing(overlay: str) -> None:
    with_token = {owner for owner, _, spec in pods(overlay) if spec.get("automountServiceAccountToken") is not False}
    assert with_token == {"Deployment/ssh-worker"}
    assert all(each["automountServiceAccountToken"] is False for each in of_kind(overlay, "ServiceAccount"))
    [role] = of_kind(overlay, "Role", "ClusterRole")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    [binding] = of_kind(overlay, "RoleBinding", "ClusterRoleBinding")
    [subject] = binding["subjects"]
    assert (subject["name"], binding["roleRef"]["name"]) == ("ssh-worker", role["metadata"]["name"])
    [policy] = of_kind(overlay, "ValidatingAdmissionPolicy")
    [condition] = policy["spec"]["matchConditions"]
    assert f"system:serviceaccount:{binding['metadata']['namespace']}:ssh-worker" in condition["expression"]
    [enforced] = of_kind(overlay, "ValidatingAdmissionPolicyBinding")
    assert enforced["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


# Network.


@every_overlay
def test_nothing_is_allowed_by_default(overlay: str) -> None:
    spec = named(overlay, "NetworkPolicy", "default-deny")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_overlay
def test_every_service_is_reached_through_a_network_policy(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        wanted = service["spec"]["selector"]
        behind = [(labels, spec) for _, labels, spec in pods(overlay) if wanted.items() <= labels.items()]
        assert behind, title(service)
        for labels, spec in behind:
            ports = {port.get("name"): port["containerPort"] for each in spec["containers"] for port in each.get("ports", [])}
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                number = ports.get(target, target)
                assert number in _admitted(overlay, labels, ports), (title(service), port)


def _admitted(overlay: str, labels: dict[str, str], ports: dict[str, int]) -> set[Any]:
    """The ports on which some NetworkPolicy lets somebody reach pods with these labels."""
    return {
        ports.get(port["port"], port["port"])
        for policy in of_kind(overlay, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    }


@every_overlay
def test_only_workers_reach_machines(overlay: str) -> None:
    reach_everything = set()
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("ports"), title(policy)
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") in ("0.0.0.0/0", "::/0"):
                    reach_everything.add(policy["metadata"]["name"])
                    assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "ssh-worker"}}
                    assert peer["ipBlock"]["except"], "not the cloud's metadata service"
    assert reach_everything == {"ssh-worker", "ssh-worker-to-kubernetes"}


@every_overlay
def test_what_a_pod_may_call_lets_it_in(overlay: str) -> None:
    """Each rule of egress to pods of ours has its counterpart in a rule of ingress of these."""
    everybody = list(pods(overlay))
    for policy in of_kind(overlay, "NetworkPolicy"):
        sources = [labels for _, labels, _ in everybody if selects(policy["spec"]["podSelector"], labels)]
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if "namespaceSelector" in peer or "podSelector" not in peer:
                    continue
                targets = [(labels, spec) for _, labels, spec in everybody if selects(peer["podSelector"], labels)]
                assert targets, (title(policy), peer)
                for labels, _ in targets:
                    for port in rule["ports"]:
                        for source in sources:
                            assert _lets_in(overlay, labels, source, port["port"]), (title(policy), source, labels, port)


def _lets_in(overlay: str, target: dict[str, str], source: dict[str, str], port: int) -> bool:
    return any(
        selects(policy["spec"]["podSelector"], target)
        and any(port == each["port"] for each in rule["ports"])
        and any("namespaceSelector" not in peer and selects(peer["podSelector"], source) for peer in rule["from"])
        for policy in of_kind(overlay, "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
    )


@every_overlay
def test_an_ingress_keeps_a_terminal_for_hours(overlay: str) -> None:
    [ingress] = of_kind(overlay, "Ingress")
    annotations = ingress["metadata"]["annotations"]
    for name in ("nginx.ingress.kubernetes.io/proxy-read-timeout", "nginx.ingress.kubernetes.io/proxy-send-timeout"):
        assert int(annotations[name]) >= 3600
    assert ingress["spec"]["tls"]
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            service = named(overlay, "Service", path["backend"]["service"]["name"])
            assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


# Settings.


@every_overlay
def test_variables_exist_and_have_values_that_a_service_takes(overlay: str) -> None:
    seen = set()
    for _, labels, spec in pods(overlay):
        name = labels["app.kubernetes.io/name"]
        if name not in OURS:
            continue
        seen.add(name)
        kind = manifest_settings.SERVICES[OURS[name]]
        known = {variable.name for variable in variables(kind)}
        [container] = spec["containers"]
        values, elsewhere = environment(overlay, container)
        assert {variable for variable in values.keys() | elsewhere if variable.startswith("VSAY_")} <= known
        assert values.keys() | elsewhere <= known
        load(kind, values)
    assert seen == OURS.keys()


def test_every_setting_of_a_service_is_in_the_manifests() -> None:
    """The settings files name what is set and what is left at its default; `just documents` keeps them."""
    for path, text in manifest_settings.files():
        assert path.read_text(encoding="utf-8") == text, f"run `just documents`: {path.name}"
    for service, kind in manifest_settings.SERVICES.items():
        shared = ("bus",) if service == "ssh-worker" else ("bus", "clickhouse")
        files = [(manifest_settings.BASE / "settings" / f"{file}.env").read_text() for file in (*shared, service)]
        manifest = (manifest_settings.BASE / f"{service}.yaml").read_text()
        for variable in variables(kind):
            named_in_file = any(f"{variable.name}=" in file for file in files)
            assert named_in_file != (f"- name: {variable.name}\n" in manifest), variable.name


@every_overlay
def test_what_a_pod_refers_to_exists(overlay: str) -> None:
    given = {title(each) for each in rendered(overlay)}
    given |= {f"Secret/{each['spec']['target']['name']}" for each in of_kind(overlay, "ExternalSecret")}
    if overlay == "external":
        given |= {f"Secret/{name}" for name in ("vsay-nats", "vsay-clickhouse", "vsay-machine-credentials", "vsay-signing-keys")}
    for owner, _, spec in pods(overlay):
        wanted = {f"PriorityClass/{spec['priorityClassName']}"}
        if "serviceAccountName" in spec:
            wanted.add(f"ServiceAccount/{spec['serviceAccountName']}")
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                wanted.add(f"ConfigMap/{volume['configMap']['name']}")
            if "secret" in volume and not (volume["secret"].get("optional") and overlay == "dev"):
                wanted.add(f"Secret/{volume['secret']['secretName']}")
        for container in spec["containers"]:
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    wanted.add(f"Secret/{variable['valueFrom']['secretKeyRef']['name']}")
        assert wanted <= given, (owner, wanted - given)


# Scaling and stopping.


@every_overlay
def test_a_worker_is_given_the_time_that_it_drains(overlay: str) -> None:
    spec = named(overlay, "Deployment", "ssh-worker")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    values, _ = environment(overlay, container)
    settings = load(WorkerSettings, values)
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert spec["terminationGracePeriodSeconds"] >= before + settings.drain_seconds + LAST_SECONDS + MARGIN_SECONDS


@every_overlay
def test_a_service_outlasts_the_lag_of_its_endpoints(overlay: str) -> None:
    spec = named(overlay, "Deployment", "session-api")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 5
    assert spec["terminationGracePeriodSeconds"] >= pause + 10 + 20


@every_overlay
def test_no_rollout_and_no_node_autoscaler_cuts_sessions(overlay: str) -> None:
    deployment = named(overlay, "Deployment", "ssh-worker")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


@every_overlay
def test_probes_ask_our_health_on_a_port_that_is_served(overlay: str) -> None:
    for name in ("session-api", "ssh-worker", "audit"):
        [container] = named(overlay, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        values, _ = environment(overlay, container)
        wanted = [int(values["VSAY_HEALTH_PORT"])]
        if name == "session-api":
            wanted.insert(0, int(values["VSAY_API_PORT"]))
        assert [each["containerPort"] for each in container["ports"]] == wanted
        assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {
            container["ports"][0]["name"]
        }
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@every_overlay
def test_metrics_are_served_where_prometheus_looks_and_nobody_else_reaches(overlay: str) -> None:
    for name in ("session-api", "ssh-worker", "audit"):
        template = named(overlay, "Deployment", name)["spec"]["template"]
        values, _ = environment(overlay, template["spec"]["containers"][0])
        annotations = template["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == values["VSAY_HEALTH_PORT"]
        reaching = [
            rule["from"]
            for policy in of_kind(overlay, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
            for rule in policy["spec"].get("ingress", [])
            if int(values["VSAY_HEALTH_PORT"]) in {port["port"] for port in rule["ports"]}
        ]
        assert reaching == [[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]]
    [service] = [each for each in of_kind(overlay, "Service") if each["metadata"]["name"] == "session-api"]
    assert {each["targetPort"] for each in service["spec"]["ports"]} == {"http"}, "clients reach the API alone"


@every_overlay
def test_every_disruption_budget_and_spread_finds_its_pods(overlay: str) -> None:
    everybody = [labels for _, labels, _ in pods(overlay)]
    budgets = of_kind(overlay, "PodDisruptionBudget")
    for budget in budgets:
        assert any(selects(budget["spec"]["selector"], labels) for labels in everybody), title(budget)
    for name in ("session-api", "ssh-worker", "audit"):
        labels = {"app.kubernetes.io/name": name}
        assert any(selects(budget["spec"]["selector"], labels) for budget in budgets), name
        spec = named(overlay, "Deployment", name)["spec"]["template"]["spec"]
        assert {each["topologyKey"] for each in spec["topologySpreadConstraints"]} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }


@every_overlay
def test_either_an_autoscaler_or_the_manifest_says_how_many(overlay: str) -> None:
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(overlay, "ScaledObject", "HorizontalPodAutoscaler")}
    deployments = of_kind(overlay, "Deployment")
    assert scaled <= {each["metadata"]["name"] for each in deployments}
    for each in deployments:
        assert ("replicas" in each["spec"]) != (each["metadata"]["name"] in scaled), title(each)


@pytest.mark.parametrize("overlay", ["production", "external"])
def test_workers_are_scaled_by_the_sessions_that_wait_and_live(overlay: str) -> None:
    [container] = named(overlay, "Deployment", "ssh-worker")["spec"]["template"]["spec"]["containers"]
    values, _ = environment(overlay, container)
    [trigger] = named(overlay, "ScaledObject", "ssh-worker")["spec"]["triggers"]
    metadata = trigger["metadata"]
    assert trigger["type"] == "nats-jetstream"
    assert (metadata["stream"], metadata["consumer"]) == (streams.COMMANDS.name, streams.SSH_WORKERS.durable)
    assert int(metadata["lagThreshold"]) == round(0.7 * load(WorkerSettings, values).worker_places)
    [trigger] = named(overlay, "ScaledObject", "audit")["spec"]["triggers"]
    assert (trigger["metadata"]["stream"], trigger["metadata"]["consumer"]) == (streams.SESSIONS.name, streams.AUDIT.durable)


def test_keda_finds_the_single_servers_of_the_cluster() -> None:
    """It asks SERVER.ENDPOINT for each server that the monitoring endpoint names (its nats-jetstream scaler)."""
    service = named("production", "Service", "nats-headless")
    for name in ("ssh-worker", "audit"):
        [trigger] = named("production", "ScaledObject", name)["spec"]["triggers"]
        host, _, port = trigger["metadata"]["natsServerMonitoringEndpoint"].partition(":")
        assert host == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    assert service["spec"]["clusterIP"] == "None"
    assert named("production", "StatefulSet", "nats")["spec"]["serviceName"] == service["metadata"]["name"]


def test_only_audit_may_write_to_clickhouse() -> None:
    """The users that the manifests declare have what the Secrets and the containers name, and one of them writes."""
    template = {
        each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all((ROOT / "secrets/template.yaml").read_text())
    }
    wanted = {template["vsay-clickhouse"][f"{who}-user"] for who in ("audit", "api")} | {"analyst"}
    [chi] = of_kind("production", "ClickHouseInstallation")
    users = chi["spec"]["configuration"]["users"]
    assert {key.partition("/")[0] for key in users} == wanted
    [config] = [each for each in of_kind("dev", "ConfigMap") if "users.xml" in each["data"]]
    declared = ElementTree.fromstring(config["data"]["users.xml"]).find("users")
    assert declared is not None
    assert {each.tag for each in declared} == wanted | {"default"}
    for user in wanted:
        only_reads = user != "vsay_audit"
        assert (users.get(f"{user}/grants/query") == "GRANT SELECT ON vsay.*") == only_reads
        assert (declared.findtext(f"{user}/grants/query") == "GRANT SELECT ON vsay.*") == only_reads
    for name, who in (("session-api", "api"), ("audit", "audit")):
        [container] = named("dev", "Deployment", name)["spec"]["template"]["spec"]["containers"]
        keys = [each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "CLICKHOUSE" in each["name"]]
        assert keys == [f"{who}-user", f"{who}-password"]


def test_the_schema_is_made_on_the_cluster_that_the_operator_makes() -> None:
    [chi], [chk] = (of_kind("production", f"ClickHouse{kind}Installation") for kind in ("", "Keeper"))
    [cluster] = chi["spec"]["configuration"]["clusters"]
    [keeper] = chi["spec"]["configuration"]["zookeeper"]["nodes"]
    assert keeper["host"] == f"keeper-{chk['metadata']['name']}"
    users, profiles = (chi["spec"]["configuration"][each] for each in ("users", "profiles"))
    for profile in {value for key, value in users.items() if key.endswith("/profile")}:
        assert profiles[f"{profile}/distributed_product_mode"] == "global", "queries join what lies on other shards"
    assert "{uuid}" in chi["spec"]["configuration"]["settings"]["default_replica_path"]
    for name in ("session-api", "audit"):
        [container] = named("production", "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert environment("production", container)[0]["VSAY_CLICKHOUSE_CLUSTER"] == cluster["name"]
    [container] = named("dev", "Deployment", "audit")["spec"]["template"]["spec"]["containers"]
    assert "VSAY_CLICKHOUSE_CLUSTER" not in environment("dev", container)[0]


def test_the_stream_and_what_else_needs_room_fits_into_nats() -> None:
    for overlay in ("dev", "production"):
        [container] = named(overlay, "Deployment", "ssh-worker")["spec"]["template"]["spec"]["containers"]
        sessions_bytes = load(WorkerSettings, environment(overlay, container)[0]).stream_bytes_max
        statefulset = named(overlay, "StatefulSet", "nats")["spec"]
        [config] = [each["configMap"]["name"] for each in statefulset["template"]["spec"]["volumes"] if "configMap" in each]
        text = named(overlay, "ConfigMap", config)["data"]["nats.conf"]
        store_bytes = int(text.partition("max_file_store: ")[2].partition("GB")[0]) * 1000**3
        assert sessions_bytes * 1.2 <= store_bytes
        [claim] = statefulset["volumeClaimTemplates"]
        volume = claim["spec"]["resources"]["requests"]["storage"]
        assert volume.endswith("Gi")
        assert store_bytes <= int(volume[:-2]) * 1024**3


def test_the_secrets_of_every_way_are_the_same() -> None:

    template = {
        each["metadata"]["name"]: set(each["stringData"])
        for each in yaml.safe_load_all((ROOT / "secrets/template.yaml").read_text())
    }
    fetched = {
        each["metadata"]["name"]: {entry["secretKey"] for entry in each["spec"].get("data", [])}
        for each in of_kind("production", "ExternalSecret")
    }
    for each in yaml.safe_load_all((ROOT / "secrets/template.yaml").read_text()):
        validate(each)
    for name in ("vsay-nats", "vsay-clickhouse", "vsay-signing-keys"):
        assert template[name] == fetched[name]
    for name in ("vsay-nats", "vsay-clickhouse"):
        [secret] = [each for each in of_kind("dev", "Secret") if each["metadata"]["name"].startswith(name)]
        assert secret["data"].keys() == template[name]
    assert template.keys() >= {"vsay-nats", "vsay-clickhouse", "vsay-machine-credentials"}
