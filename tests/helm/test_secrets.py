"""Secrets are made once. Helm asks an API server, here one of a few lines, for those that are there already."""

import base64
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from helm_chart import NAMESPACE, Object, of_kind, rendered, template

Render = Callable[[list[Object]], dict[str, Object]]
"""Secrets by name, rendered on a cluster that holds some already."""
ARGUMENTS = ["--set", "qdrant.enabled=true", "--show-only", "templates/secrets.yaml"]


def _discovery(kinds: set[tuple[str, str]]) -> dict[str, Object]:
    """What an API server tells of its versions and of these (API version, kind), which Helm looks up."""
    lists: dict[str, list[Object]] = {"v1": []}
    for api, kind in sorted(kinds):
        name = kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")
        resource = {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get"]}
        lists.setdefault(api, []).append(resource)
    groups = [
        {"name": api.split("/")[0], "versions": [{"groupVersion": api, "version": api.split("/")[1]}]}
        for api in lists
        if "/" in api
    ]
    return {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    } | {
        f"/{'apis' if '/' in api else 'api'}/{api}": {
            "kind": "APIResourceList", "groupVersion": api, "resources": resources
        }
        for api, resources in lists.items()
    }  # fmt: skip


def _stored(secrets: list[Object]) -> dict[str, Object]:
    return {f"/api/v1/namespaces/{NAMESPACE}/secrets/{item['metadata']['name']}": item for item in secrets}


@pytest.fixture
def render(tmp_path: Path) -> Iterator[Render]:
    answers = _discovery({(item["apiVersion"], item["kind"]) for item in template("--set", "qdrant.enabled=true")})
    missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or missing).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))
        cluster = ["--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(kubeconfig)]

        def rendering(secrets: list[Object]) -> dict[str, Object]:
            answers.update(_stored(secrets))
            return {item["metadata"]["name"]: item for item in template(*ARGUMENTS, *cluster)}

        yield rendering
        server.shutdown()


def _as_stored(secret: Object) -> Object:
    """As Kubernetes gives it back after Helm has put it there: `stringData` became `data`."""
    owner = {"meta.helm.sh/release-name": "capstan", "meta.helm.sh/release-namespace": NAMESPACE}
    metadata = {**secret["metadata"], "annotations": {**secret["metadata"]["annotations"], **owner}}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in secret.get("stringData", {}).items()}
    return {**secret, "metadata": metadata, "data": {**secret.get("data", {}), **encoded}}


def test_an_upgrade_keeps_every_secret(render: Render) -> None:
    first = {name: _as_stored(secret) for name, secret in render([]).items()}
    assert set(first) == {"capstan", "capstan-redis", "capstan-qdrant"}
    again = {name: _as_stored(secret) for name, secret in render(list(first.values())).items()}
    assert {name: secret["data"] for name, secret in again.items()} == {
        name: secret["data"] for name, secret in first.items()
    }


def test_two_installations_share_no_secret(render: Render) -> None:
    one, other = render([]), render([])
    for name in one:
        first, second = _as_stored(one[name])["data"], _as_stored(other[name])["data"]
        assert [key for key in first if first[key] == second[key]] == [], name


def test_a_secret_that_lacks_a_key_gets_it_and_keeps_the_rest(render: Render) -> None:
    made = _as_stored(render([])["capstan"])
    data = {key: value for key, value in made["data"].items() if key != "CAPSTAN_GATEWAY_ADMIN_KEY"}
    again = _as_stored(render([{**made, "data": data}])["capstan"])["data"]
    assert data.items() <= again.items()
    assert len(base64.b64decode(again["CAPSTAN_GATEWAY_ADMIN_KEY"])) >= 32


def test_uninstalling_keeps_secrets_and_claims(objects: tuple[Object, ...]) -> None:
    for item in of_kind(objects, "Secret", "PersistentVolumeClaim"):
        assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", item["metadata"]["name"]


def test_the_users_own_secret_replaces_ours() -> None:
    names = {item["metadata"]["name"] for item in of_kind(rendered("external-stores"), "Secret")}
    assert names == set()
