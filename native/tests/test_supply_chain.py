"""make audit and make sbom, with the real tools; OSV, whom pip-audit asks, is a server of the test's own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capstan.native import supply_chain

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = str(ROOT / "native/bootstrap.py")


@dataclass
class Osv:
    """Vulnerabilities by package, and what was asked about."""

    url: str = ""
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def osv() -> Iterator[Osv]:
    api = Osv()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = query["package"]["name"]
            api.asked.append(f"{name}=={query['version']}")
            body = json.dumps({"vulns": [api.known[name]]} if name in api.known else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}/v1/query"
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "no_proxy": "127.0.0.1"}
    command = [sys.executable, BOOTSTRAP, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    """Installed here, so that it does not count as a test's time."""
    assert run("audit", "--help").returncode == 0


def test_every_pin_of_an_environment_is_asked_about_and_found_good(osv: Osv) -> None:
    done = run("audit", "--service", "osv", "--osv-url", osv.url, "compiler")
    assert (done.returncode, done.stderr) == (0, "")
    assert "compiler: 7 packages, 0 vulnerabilities\n" in done.stdout
    assert sorted(osv.asked) == supply_chain.pins(["native/requirements-compiler.txt"])


def test_a_pin_is_read_with_and_without_a_hash_and_a_comment(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("# a==1\nb==2 --hash=sha256:aa\nC_d==3.0.post1 # why\ne[f]==4\n")
    assert supply_chain.pins([str(tmp_path / "r.txt")]) == ["C_d==3.0.post1", "b==2", "e[f]==4"]


def test_a_known_vulnerability_fails_and_says_what_mends_it(osv: Osv) -> None:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
    affected = [{"package": {"name": "pathspec", "ecosystem": "PyPI"}, "ranges": ranges}]
    osv.known["pathspec"] = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "affected": affected}
    audit = ("audit", "--service", "osv", "--osv-url", osv.url, "compiler")
    done = run(*audit)
    assert done.returncode == 1
    assert "compiler: 7 packages, 1 vulnerabilities\n" in done.stdout
    assert "  pathspec 1.1.1: PYSEC-2026-1, CVE-2026-1, fixed in 99.1\n" in done.stdout
    assert run(*audit, "--ignore", "PYSEC-2026-1").returncode == 0


def test_without_an_answer_it_fails_with_one_line() -> None:
    done = run("audit", "--service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query", "compiler")
    assert done.returncode == 2
    assert done.stderr.startswith("error: pip-audit: requests.exceptions.ConnectionError")
    assert done.stderr.count("\n") == 1


def test_an_index_without_vulnerability_data_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit skips such packages and is content."""
    rows = [{"name": "known", "version": "1", "vulns": []}, {"name": "unknown", "skip_reason": "not found on PyPI"}]
    said = subprocess.CompletedProcess([], 0, stdout=json.dumps({"dependencies": rows}), stderr="")
    monkeypatch.setattr(supply_chain, "_run", lambda *_, **__: said)
    assert supply_chain.audit_all(["compiler"], []) == 2
    said, error = capsys.readouterr()
    assert said == "compiler: 2 packages, 0 vulnerabilities, no answer about 1\n"
    assert "no answer about 1 packages (unknown, …)" in error


def test_an_environment_that_there_is_not_is_named() -> None:
    done = run("audit", "compilr")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no environment compilr; there are services, worker,")


def test_a_bill_of_materials_names_what_is_pinned(tmp_path: Path) -> None:
    done = run("sbom", "services", "--out", str(tmp_path / "sbom"))
    assert (done.returncode, done.stderr) == (0, "")
    bill = json.loads((tmp_path / "sbom/services.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {f"{part['name']}=={part['version']}" for part in bill["components"]}
    pinned = supply_chain.pins(supply_chain.environments()["services"])
    assert len(pinned) > 50
    assert {*map(_canonical, pinned)} - {*map(_canonical, parts)} == set()


def _canonical(pin: str) -> str:
    """Without extras and ways of writing (PEP 503)."""
    name, _, version = pin.partition("==")
    return f"{name.partition('[')[0].lower().replace('_', '-')}=={version}"
