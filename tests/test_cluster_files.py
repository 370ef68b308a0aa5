"""What stands in cluster/ is what these tests run: manifests, launcher files, Dockerfile, Serve's config."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from retrieveall.cli.jobs import JOBS as COMMANDS
from retrieveall.cli.jobs import job_app
from retrieveall.cli.process import worker_variables
from retrieveall.corpus.sample import sample_corpus
from retrieveall.workspace import Workspace
from serve_apps.args import ServeArgs
from serve_apps.keys import KeyFile
from tests.heads import REPOSITORY, Head, free_ports, local_head
from tests.kuberay import EXPOSED, KINDS
from tests.models import save_tiny_base
from tests.workspaces import random_workspace

CLUSTER = REPOSITORY / "cluster"
OVERLAYS = ("cpu-small", "gpu")
JOBS = ("index", "train", "tag")
STAGES = ("ingress", "router", "retriever", "generator")
DATA = "/data"


def rendered(overlay: str) -> list[dict[str, Any]]:
    """Returns what `kubectl apply -k` would send, from kubectl's own kustomize."""
    return list(yaml.safe_load_all(_kustomized(overlay)))


@cache
def _kustomized(overlay: str) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, whose kustomize renders the overlays, is not installed")
    command = ["kubectl", "kustomize", str(CLUSTER / "kuberay" / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def one(overlay: str, kind: str, name: str = "retrieveall") -> dict[str, Any]:
    (found,) = (it for it in rendered(overlay) if it["kind"] == kind and it["metadata"]["name"] == name)
    return dict(found)


def read(path: str) -> Any:
    return yaml.safe_load((CLUSTER / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_ray_resource_has_only_fields_that_kuberay_knows(overlay: str) -> None:
    ours = [it for it in rendered(overlay) if it["apiVersion"].startswith("ray.io/")]
    for resource in ours:
        KINDS[resource["kind"]].model_validate(resource)
    assert sorted(it["kind"] for it in ours) == ["RayCluster", "RayJob", "RayJob", "RayJob", "RayService"]
    assert {it["metadata"]["labels"]["app.kubernetes.io/component"] for it in rendered(overlay)} == {
        *JOBS,
        *("storage", "cluster", "service"),
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_jobs_and_service_have_the_shape_of_the_cluster(overlay: str) -> None:
    cluster = one(overlay, "RayCluster")["spec"]
    gcs = cluster.pop("gcsFaultToleranceOptions")
    service = one(overlay, "RayService")["spec"]["rayClusterConfig"]

    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert service.pop("gcsFaultToleranceOptions") == gcs
    assert service == cluster
    for job in JOBS:
        assert one(overlay, "RayJob", f"retrieveall-{job}")["spec"]["rayClusterSpec"] == cluster


def test_what_the_manifests_name_exists() -> None:
    for overlay in OVERLAYS:
        objects = rendered(overlay)
        names = {(it["kind"], it["metadata"]["name"]) for it in objects}
        spec = one(overlay, "RayCluster")["spec"]
        host, port = spec["gcsFaultToleranceOptions"]["redisAddress"].split(":")
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            assert pod["containers"][0]["image"] == f"retrieveall:{overlay.split('-')[0]}"
            for volume in pod["volumes"]:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
        assert ("Service", host) in names
        assert one(overlay, "Service", host)["spec"]["ports"] == [{"port": int(port)}]


def test_the_service_serves_what_the_file_says() -> None:
    text = (CLUSTER / "serve.yaml").read_text(encoding="utf-8")
    assert read("kuberay/base/rayservice.yaml")["spec"]["serveConfigV2"] == text
    small = yaml.safe_load(one("cpu-small", "RayService")["spec"]["serveConfigV2"])
    gpu = yaml.safe_load(one("gpu", "RayService")["spec"]["serveConfigV2"])

    assert small == yaml.safe_load(text)
    assert serve_args("gpu").generator.gpus == 1.0
    gpu["applications"][0]["args"].update({name: small["applications"][0]["args"][name] for name in STAGES})
    assert gpu == small
    args = serve_args("cpu-small")
    assert (args.generator.threads, args.generator.target_ongoing_requests) == (64, 32)  # those left out
    assert (args.ingress.target_ongoing_requests, args.router.target_ongoing_requests) == (64, 2)
    assert one("cpu-small", "RayService")["spec"]["excludeHeadPodFromServeSvc"] is True


def serve_args(overlay: str) -> ServeArgs:
    (application,) = yaml.safe_load(one(overlay, "RayService")["spec"]["serveConfigV2"])["applications"]
    return ServeArgs.model_validate(application["args"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_load_adds_replicas_and_they_add_workers_that_hold_them(overlay: str) -> None:
    spec = one(overlay, "RayCluster")["spec"]
    (group,) = spec["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    args = serve_args(overlay)
    sizes = [getattr(args, name) for name in STAGES]

    assert spec["enableInTreeAutoscaling"] is True and group["minReplicas"] < group["maxReplicas"]
    assert all(size.replicas < size.max_replicas for size in sizes)
    for unit, name in (("cpus", "cpu"), ("gpus", "nvidia.com/gpu")):
        per_worker = float(limits.get(name, 0))
        least = sum(size.replicas * getattr(size, unit) for size in sizes)
        most = sum(size.max_replicas * getattr(size, unit) for size in sizes)
        assert least <= group["minReplicas"] * per_worker and most <= group["maxReplicas"] * per_worker


def test_the_page_says_what_a_small_cluster_asks_for() -> None:
    spec = one("cpu-small", "RayCluster")["spec"]
    pods = (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    asked = [group["template"]["spec"]["containers"][0]["resources"]["requests"] for group in pods]
    asked.append(spec["autoscalerOptions"]["resources"]["requests"])
    cpus, memory = (sum(quantity(one[name]) for one in asked) for name in ("cpu", "memory"))
    page = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert f"asks for {cpus:g} CPUs and {memory / 2**30:g} GiB" in page


def quantity(text: str) -> float:
    """Reads a number of Kubernetes'."""
    for unit, factor in {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def test_only_serve_is_open_to_the_internet_and_only_by_tls() -> None:
    rule, tls = exposed_ingress()
    (path,) = rule["http"]["paths"]
    service = path["backend"]["service"]
    assert tls["hosts"] == [rule["host"]]
    assert service["name"] == f"{one('gpu', 'RayService')['metadata']['name']}-serve-svc"
    assert service["port"]["number"] == read("serve.yaml")["http_options"]["port"]

    policy = one("exposed", "NetworkPolicy", "retrieveall-ray")["spec"]
    among_themselves, *others = policy["ingress"]
    assert among_themselves == {"from": [{"podSelector": policy["podSelector"]}]}
    assert [[port["port"] for port in one["ports"]] for one in others] == [[8000], [8265], [8080]]
    submitters = others[1]["from"][1]["podSelector"]["matchExpressions"][0]
    assert submitters["values"] == [f"retrieveall-{job}" for job in JOBS]
    redis = one("exposed", "NetworkPolicy", "retrieveall-redis")["spec"]["podSelector"]["matchLabels"]
    pods = one("gpu", "Deployment", "retrieveall-redis")["spec"]["template"]["metadata"]["labels"]
    assert redis.items() <= pods.items()


def exposed_ingress() -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns rule and certificate of the ingress, all of whose fields Kubernetes knows."""
    for resource in rendered("exposed"):
        EXPOSED[resource["kind"]].model_validate(resource)
    spec = one("exposed", "Ingress")["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    return rule, tls


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("job", JOBS)
def test_the_entrypoint_of_a_job_is_a_command_line_that_its_module_takes(
    overlay: str, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, given = COMMANDS[job], dict[str, Any]()
    words = shlex.split(one(overlay, "RayJob", f"retrieveall-{job}")["spec"]["entrypoint"])
    monkeypatch.setattr(sys, "argv", words[2:])
    assert words[:3] == ["python", "-m", command.module]
    with pytest.raises(SystemExit) as ended:
        job_app(replace(command, command=recording(command.command, given)))()

    assert ended.value.code == 0
    assert given["context"].obj.workspace == f"{DATA}/workspace"
    for word in words[4:]:
        name, _, value = word.removeprefix("--").partition("=")
        found = given[name.replace("-", "_")]
        assert found == type(found)(value or True)


def recording(command: Callable[..., None], given: dict[str, Any]) -> Callable[..., None]:
    """Returns what stands in for a command: has its flags, and only keeps what they are."""

    @functools.wraps(command)
    def call(**values: Any) -> None:
        given.update(values)

    return call


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_launcher_files_pass_rays_validator(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(f"launcher/{cloud}.yaml"))
    validate_config(config)
    worker = config["available_node_types"]["worker"]
    assert worker["min_workers"] == worker["max_workers"] == config["max_workers"] == 2
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert commands[-1].startswith("RAY_AUTH_MODE=token ")
    with pytest.raises(Exception, match="Additional properties"):
        validate_config({**config, "workers": 3})


def test_prometheus_reads_the_port_that_the_pods_open() -> None:
    (endpoint,) = read("prometheus/kubernetes.yaml")["spec"]["podMetricsEndpoints"]
    spec = read("kuberay/base/raycluster.yaml")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        ports = {port["name"] for port in group["template"]["spec"]["containers"][0]["ports"]}
        assert endpoint["port"] in ports
    (job,) = read("prometheus/vm.yaml")["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": ["/tmp/ray/prom_metrics_service_discovery.json"]}]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Returns the instructions of each target of the Dockerfile."""
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found[rest.split(" AS ")[1]] = []
        elif found and word and word != "#":
            found[list(found)[-1]].append((word, rest))
    return found


def test_images_have_the_pinned_ray_and_the_settings_of_workers() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text()
    ray = re.search(r"^ray==(.*)$", pins, re.MULTILINE)
    assert ray is not None
    text = (CLUSTER / "Dockerfile").read_text()
    assert f"ARG RAY={ray[1]}-py311" in text
    assert read("kuberay/base/raycluster.yaml")["spec"]["rayVersion"] == ray[1]
    for target in ("cpu", "gpu"):
        (variables,) = (rest for word, rest in stages()[target] if word == "ENV")
        found = dict(pair.split("=") for pair in shlex.split(variables))
        assert found.pop("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH") == "serve_apps.proxy:middlewares"
        assert found == worker_variables()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_run_lines_of_the_image_install_what_works_in_a_fresh_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
    folder = tmp_path / "image"
    folder.mkdir()
    for word, rest in stages()["cpu"]:
        if word == "COPY":
            *sources, target = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                _copy(REPOSITORY / source, folder / target / (source if target == "./" else ""))
        if word == "RUN":
            done = subprocess.run(
                rest, shell=True, cwd=folder, env={**kept, "PATH": path}, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "retrieveall 0" in done.stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for /data: a workspace without indexes and adapters, and an input."""
    folder = tmp_path_factory.mktemp("data")
    workspace = Workspace.open(folder / "workspace", create=True)
    rows = sample_corpus("en", sizes={"train": 12, "dev": 4, "test": 4})
    workspace.corpora.import_sentences(rows, name="sample", language="en")
    (folder / "input").mkdir()
    (folder / "input" / "a.txt").write_text("Daniel Osei works in Leeds.\n" * 6)
    save_tiny_base(folder / "base")
    (folder / "workspace" / "retrieveall.yaml").write_text(
        yaml.safe_dump({"format_version": 1, "settings": {"training": {"rank": 8, "alpha": 16, "epochs": 1}}})
    )
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_entrypoints_of_the_jobs_lead_from_a_corpus_to_tagged_rows(data: Path) -> None:
    with local_head(code=REPOSITORY) as head:
        for job in JOBS:
            entrypoint = read(f"kuberay/base/rayjob-{job}.yaml")["spec"]["entrypoint"].replace(
                DATA, str(data)
            )
            if job == "train":
                entrypoint += f" --base-model={data / 'base'}"  # the one that ships takes minutes
            submit_as_the_operator_does(head, entrypoint)
    summary = json.loads((data / "tagged" / "summary.json").read_text())
    assert summary["statistics"]["rows"] == 6 and summary["statistics"]["errors"] == 0


def submit_as_the_operator_does(head: Head, entrypoint: str) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.address]
    done = subprocess.run(
        [*command, "--", *shlex.split(entrypoint)],
        env=dict(head.environment),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_serve_yaml_is_deployed_and_answers(tmp_path: Path) -> None:
    workspace = random_workspace(tmp_path, ("de", "en"))
    key, _ = KeyFile(store=workspace.store).create("me", created_at="now")
    config = read("serve.yaml")
    (port,) = free_ports(1)
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"]["workspace"] = workspace.uri
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    with local_head(cpus=4, code=REPOSITORY) as head:
        command = [sys.executable, "-m", "ray.serve.scripts", "deploy", "--address", head.address]
        subprocess.run([*command, str(tmp_path / "serve.yaml")], env=dict(head.environment), check=True)
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(f"{url}/readyz")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v1/languages", timeout=30)
        answer = posted(f"{url}/v1/tag", key, {"texts": ["Anna wohnt in Kiel."]})
    (result,) = answer["results"]
    assert [sentence["language"] for sentence in result["sentences"]] in (["de"], ["en"])


def posted(url: str, key: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def wait_until_ready(url: str) -> None:
    deadline_s = time.monotonic() + 400
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except OSError:  # refused, 404 or 503: not yet
            time.sleep(1)
    raise AssertionError(f"{url} does not answer")
