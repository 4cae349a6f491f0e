"""Every edge that the network policies allow is one that a service uses, and the other way round.

What a service uses is derived from its rendered settings, arguments and models.yaml; what is allowed from the rendered
policies. A place outside of the release is its port.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import yaml
from helm_chart import CHART, CI, COMPONENT, SERVICES, Object, Workload, find, of_kind, rendered, workloads

Objects = tuple[Object, ...]
Edge = tuple[str, str, int | None]
"""From a component to a component or `outside`, on a port; None: all ports."""
DNS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


def _texts(load: Workload, objects: Objects) -> Iterator[str]:
    """Everything in which a pod may name a URL or a model."""
    yield from load.env.values()
    yield from (str(argument) for argument in load.container.get("args", []) if len(str(argument)) < 300)
    for name, (secret, key) in load.secret_files.items():
        made = [item for item in of_kind(objects, "Secret") if item["metadata"]["name"] == secret]
        if name.endswith("_URL"):
            yield made[0]["stringData"][key] if made else "redis://outside:6380"  # the port that these values state
    if load.component == "gateway":
        models = yaml.safe_load(find(objects, "ConfigMap", "capstan-gateway")["data"]["models.yaml"])
        for pool in models["pools"].values():
            yield from pool.get("urls", [])
            yield from filter(None, [pool.get("dns")])
        yield from (mount["url"] for mount in models["mounts"])


def _component(host: str, objects: Objects) -> str:
    for service in of_kind(objects, "Service"):
        if service["metadata"]["name"] == host:
            return str(service["spec"]["selector"][COMPONENT])
    return "outside"


def used_edges(objects: Objects) -> set[Edge]:
    """The edges that the services' settings need."""
    edges: set[Edge] = set()
    for load in workloads(objects):
        simulated = "--simulate" in load.container.get("args", [])
        for text in _texts(load, objects):
            for part in text.split(","):
                url = urlsplit(part.partition("=")[2] if part.startswith("--") else part)
                if "hf" in (url.scheme, part.partition("=")[2][:2]) and not simulated:
                    edges.add((load.component, "outside", 443))
                elif url.scheme in PORTS and url.hostname:
                    port = url.port or PORTS[url.scheme]
                    edges.add((load.component, _component(url.hostname, objects), port))
                elif part.startswith("--master-addr="):
                    host = part.partition("=")[2].partition(".")[2]
                    edges.add((load.component, _component(host, objects), None))
    return edges


def _peers(rule: Object, key: str) -> Iterator[str]:
    """Components that a rule names, or `outside`."""
    for peer in rule.get(key, [{}]):
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        yield str(labels.get(COMPONENT, "outside"))


def allowed_edges(objects: Objects, direction: str) -> set[Edge]:
    """The edges that the policies' rules of one direction allow; DNS, scraping and clients are looked at apart."""
    key, edges = ("to" if direction == "egress" else "from"), set()
    for policy in of_kind(objects, "NetworkPolicy"):
        own = policy["spec"]["podSelector"]["matchLabels"].get(COMPONENT)
        for rule in policy["spec"].get(direction, []):
            if rule.get("ports") == DNS:
                continue
            for peer in _peers(rule, key):
                for port in rule.get("ports", [{"port": None}]):
                    edges.add((own, peer, port["port"]) if direction == "egress" else (peer, own, port["port"]))
    return edges


def _hub_of_jobs(name: str) -> set[Edge]:
    """Values say which jobs fetch data; their arguments do not."""
    runs = yaml.safe_load((CHART / f"ci/{name}-values.yaml").read_text()).get("jobs", {}).get("runs", {})
    return {(f"job-{job}", "outside", 443) for job, run in runs.items() if run.get("hub")}


def test_what_goes_out_is_what_is_used() -> None:
    for name in CI:
        objects = rendered(name)
        assert allowed_edges(objects, "egress") == used_edges(objects) | _hub_of_jobs(name), name


def _scraped_edges(objects: Objects) -> set[Edge]:
    """From Prometheus to every port that serves metrics."""
    return {
        ("outside", load.component, port["containerPort"])
        for load in workloads(objects)
        for port in load.container.get("ports", [])
        if load.component in SERVICES or port["name"] == "metrics"
    }


def test_what_comes_in_is_what_is_used(objects: Objects) -> None:
    """Clients come in where the gateway is scraped, too: it has one port."""
    inside = {edge for edge in used_edges(objects) if edge[1] != "outside"}
    assert allowed_edges(objects, "ingress") == inside | _scraped_edges(objects)


def test_there_is_a_path_to_test(objects: Objects) -> None:
    """The derivation finds what the architecture names; else the comparisons above would compare nothing."""
    assert {
        ("gateway", "vllm-worker", 8004),
        ("gateway", "generator", 8003),
        ("gateway", "reranker", 8002),
        ("gateway", "retriever", 8001),
        ("generator", "gateway", 8000),
        ("generator", "retriever", 8001),
        ("generator", "reranker", 8002),
    } <= used_edges(objects)


def test_only_the_gateway_reaches_workers(objects: Objects) -> None:
    senders = {edge[0] for edge in allowed_edges(objects, "ingress") if edge[1] == "vllm-worker"}
    assert senders == {"gateway", "outside"}  # outside: Prometheus, as the next test shows
    worker = find(objects, "NetworkPolicy", "capstan-vllm-worker")
    outside = [rule["from"] for rule in worker["spec"]["ingress"] if "podSelector" not in rule["from"][0]]
    assert outside == [[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]]


def test_everything_else_is_denied(objects: Objects) -> None:
    deny = find(objects, "NetworkPolicy", "capstan-default-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    for load in workloads(objects):
        assert deny["podSelector"]["matchLabels"].items() <= load.labels.items(), load.name
        own = find(objects, "NetworkPolicy", f"capstan-{load.component}")["spec"]
        assert own["podSelector"]["matchLabels"].items() <= load.labels.items(), load.name
        assert own["policyTypes"] == ["Ingress", "Egress"]
        assert own["egress"][0]["ports"] == DNS, "nothing is found without DNS"


def test_peers_of_external_stores_are_narrowed() -> None:
    objects = rendered("external-stores")
    gateway = find(objects, "NetworkPolicy", "capstan-gateway")["spec"]["egress"]
    assert {"ports": [{"port": 6380}], "to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}]} in gateway
    retriever = find(objects, "NetworkPolicy", "capstan-retriever")["spec"]["egress"]
    vectors = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vectors"}}}
    assert {"ports": [{"port": 6333}], "to": [vectors]} in retriever


def test_the_worlds_way_in_has_no_admin_and_no_metrics() -> None:
    objects = rendered("everything")
    (ingress,), (route,) = of_kind(objects, "Ingress"), of_kind(objects, "HTTPRoute")
    paths = {path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    assert paths == {"/", "/v1", "/assets"}
    assert {p["pathType"] for r in ingress["spec"]["rules"] for p in r["http"]["paths"] if p["path"] == "/"} == {
        "Exact"
    }
    matches = {(match["path"]["type"], match["path"]["value"]) for match in route["spec"]["rules"][0]["matches"]}
    assert matches == {("Exact", "/"), ("PathPrefix", "/v1"), ("PathPrefix", "/assets")}


def test_the_worlds_way_in_streams() -> None:
    objects = rendered("everything")
    (ingress,), (route,) = of_kind(objects, "Ingress"), of_kind(objects, "HTTPRoute")
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    drain = next(load for load in workloads(objects) if load.component == "gateway").env["CAPSTAN_DRAIN_S"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > int(drain)
    assert int(route["spec"]["rules"][0]["timeouts"]["request"].removesuffix("s")) > int(drain)
