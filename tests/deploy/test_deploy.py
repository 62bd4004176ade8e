"""The deployment files name commands, options, ports, settings and files that exist."""

from __future__ import annotations

import configparser
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml
from prometheus_client import ProcessCollector

from robots import body, realtime
from services import cli
from services import config as configs
from services.cluster import roles
from services.cluster.cluster import ENVIRONMENT, PATIENCE
from services.config import PORTS
from services.exporter import ORDER, metrics_port
from services.metrics import METRICS, PREFIX, STATES
from services.robot.service import LAST_DELIVERY
from services.wire.security import SERVER

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
RAY = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
AT_REST = body.PARKING + LAST_DELIVERY  # seconds: the robot lies, and what it has is delivered
DOCKERFILE = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
ROBOT = roles.robot_name(configs.load(ROOT / "configs" / "a1_walk.yaml"), 0)


def parse(words: list[str]) -> tuple[str, dict]:
    """A `daydreamer` command as the command line understands it: name and options. Raises click's errors."""
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):  # `replay CONFIG` is a group that serves by default
        context = typer.Context(command, info_name="daydreamer")
        rest = command.parse_args(context, list(words))
        words = [*context._protected_args, *rest] if hasattr(context, "_protected_args") else rest
        name, command, words = command.resolve_command(context, words)
    return name, command.make_context(name, list(words)).params


def check_command(words: list[str], known: str) -> dict:
    """The options of a command that names an existing config, and settings that it has."""
    name, options = parse(words)
    assert name == known
    assert (ROOT / options["config"]).is_file()
    configs.load(ROOT / options["config"], options["changes"] or ())
    return options


@functools.cache
def ray_start_options() -> set[str]:
    """As `ray start --help` lists them."""
    told = subprocess.check_output([Path(sys.executable).parent / "ray", "start", "--help"], text=True)
    return set(re.findall(r"^ +(--[a-z-]+)", told, re.MULTILINE))


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str
    lines = (DEPLOY / "daydreamer-robot.service").read_text().splitlines()
    parser.read_string("\n".join(line for line in lines if not line.startswith("Environment=")))
    return parser


def unit_environment() -> dict[str, str]:
    lines = (DEPLOY / "daydreamer-robot.service").read_text().splitlines()
    settings = " ".join(line.removeprefix("Environment=") for line in lines if line.startswith("Environment="))
    return dict(word.split("=", 1) for word in settings.split())


@pytest.mark.parametrize("kind", [*roles.SERVICES, "robot"])
def test_every_service_has_a_container_that_runs_it_and_comes_back(kind: str):
    service = COMPOSE["services"][kind]
    options = check_command(service["command"], "serve" if kind == "replay" else kind)
    assert service["restart"] == "always"
    assert options["home"] == Path("/runs")
    keys = configs.load(ROOT / options["config"], options["changes"]).network.keys
    assert keys == f"/keys/{ROBOT if kind == 'robot' else SERVER}.key_secret"
    assert service["build"]["target"] in re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE)
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_containers_offer_the_ports_that_the_services_bind():
    first = configs.load(ROOT / "configs" / "a1_walk.yaml").network.port
    assert f"EXPOSE {first}-{first + len(PORTS) - 1}" in DOCKERFILE
    assert all(service["network_mode"] == "host" for service in COMPOSE["services"].values())
    assert COMPOSE["services"]["robot"]["command"][2:4] == ["--connect", "localhost"]


def test_containers_have_the_time_to_end_in_order_and_the_priority_to_keep_time():
    for kind in (*roles.SERVICES, "robot"):
        service = COMPOSE["services"][kind]
        needed = AT_REST if kind == "robot" else PATIENCE[kind]
        assert float(service["stop_grace_period"].removesuffix("s")) > needed
        assert service["ulimits"]["rtprio"] >= realtime.PRIORITY


def test_the_image_is_made_of_what_is_there_and_does_not_run_as_root():
    for line in re.findall(r"^COPY (?!--from=source)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()), line
    project = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"'\.\[(.+?)\]'", DOCKERFILE):
        assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    for stage in stages:
        if "pip install" not in stage:
            continue
        assert re.findall(r"^USER (\w+)", stage, re.MULTILINE) == ["daydreamer"]
    robot = next(stage for stage in stages if " AS robot" in stage.splitlines()[0])
    assert "torch" not in robot and "learner" not in robot
    services = next(stage for stage in stages if " AS services" in stage.splitlines()[0])
    assert services.index("^torch==") < services.index("[learner,")
    command = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE).group(1))
    check_command(command, "run")


def test_the_image_has_the_libraries_that_the_set_up_installs():
    set_up = (ROOT / "tools" / "environment.sh").read_text()
    needed = set(re.findall(r'"lib[^"]+\.so[.0-9]*": "(lib[a-z0-9.-]+)"', set_up))
    assert needed and all(package in DOCKERFILE for package in needed)


def test_the_unit_runs_a_robot_that_comes_back_and_whose_body_outlives_it():
    service = unit()["Service"]
    environment = unit_environment()
    command = re.sub(r"\$\{(\w+)\}", lambda match: environment[match.group(1)], service["ExecStart"])
    program, *words = shlex.split(command)
    assert program == f"{service['WorkingDirectory']}/.venv/bin/daydreamer"
    options = check_command(words, "robot")
    assert options["home"] == Path("/var/lib") / service["StateDirectory"]
    assert environment["KEYS"].endswith(f"/{ROBOT}.key_secret")
    assert (service["Restart"], service["KillMode"], service["User"]) == ("always", "process", "daydreamer")
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_unit_lets_the_robot_come_to_rest_keep_time_and_see_its_devices():
    service = unit()["Service"]
    assert float(service["TimeoutStopSec"]) > AT_REST
    assert int(service["LimitRTPRIO"]) >= realtime.PRIORITY
    assert not {"RestrictRealtime", "PrivateDevices", "DevicePolicy", "ProtectClock", "PrivateNetwork"} & set(service)


def test_the_ray_cluster_is_one_that_ray_accepts():
    ray = Path(importlib.util.find_spec("ray").origin).parent  # not imported: the cluster sets its environment first
    schema = json.loads((ray / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(RAY, schema)
    assert RAY["provider"]["type"] == "local" and RAY["max_workers"] == len(RAY["provider"]["worker_ips"])


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_ray_node_is_started_with_our_environment_and_options_that_ray_has(commands: str):
    (line,) = [command for command in RAY[commands] if "ray start" in command]
    words = shlex.split(line)
    program = next(n for n, word in enumerate(words) if word.endswith("/ray"))
    assert dict(word.split("=", 1) for word in words[:program]) == ENVIRONMENT
    assert {word.partition("=")[0] for word in words[program + 2:]} <= ray_start_options()


def test_a_robot_s_machine_says_so_with_the_resource_that_places_the_robot():
    robot = json.loads(re.search(r"robot\.json: (\{.+\})", (DEPLOY / "ray-cluster.yaml").read_text()).group(1))
    assert robot == {f"robot:{ROBOT}": 1}


def test_prometheus_looks_where_the_processes_of_a_run_show_their_metrics():
    lists = [of["targets"] for job in PROMETHEUS["scrape_configs"] for of in job["static_configs"]]
    looked = {target for targets in lists for target in targets}
    first = configs.load(ROOT / "configs" / "a1_walk.yaml", ["network.metrics=9550"])
    assert looked == {f"localhost:{metrics_port(first, kind, f'{kind}-0')}" for kind in ORDER}
    for kind in (*roles.SERVICES, "robot"):
        options = check_command(COMPOSE["services"][kind]["command"], "serve" if kind == "replay" else kind)
        assert configs.load(ROOT / options["config"], options["changes"]).network.metrics == 9550
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def test_what_containers_mount_is_there():
    volumes = [volume for name in ("prometheus", "grafana") for volume in COMPOSE["services"][name]["volumes"]]
    mounted = [volume.split(":")[0] for volume in volumes]
    assert mounted == ["./prometheus.yml", "./alerts.yml", "prometheus", "./grafana"]
    assert all((DEPLOY / path).exists() for path in mounted if path.startswith("."))


def queries() -> list[tuple[str, str]]:
    """(where, PromQL) of all alert rules and panels."""
    rules = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
    boards = [(path.name, json.loads(path.read_text())) for path in DASHBOARDS]
    variables = [(name, variable["query"]) for name, board in boards for variable in board["templating"]["list"]]
    panels = [(f"{name}: {panel['title']}", target["expr"])
              for name, board in boards for panel in board["panels"] for target in panel["targets"]]
    return [*rules, *variables, *panels]


def exported() -> set[str]:
    """Every series that our processes show."""
    ours = {PREFIX + name + suffix for name, metric in METRICS.items()
            for suffix in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))}
    process = ProcessCollector(namespace=PREFIX.rstrip("_"), registry=None)
    return ours | {sample.name for family in process.collect() for sample in family.samples}


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda text: text if len(text) < 60 else "")
def test_alerts_and_dashboards_ask_for_metrics_that_there_are(where: str, query: str):
    names = set(re.findall(rf"\b{PREFIX}\w+", query))
    assert names <= exported() and (names or query.startswith("up{")), where
    assert set(re.findall(r'state="(\w+)"', query)) <= set(STATES)
    assert set(re.findall(r'kind="(\w+)"', query)) <= set(ORDER)
    for name in re.findall(rf"(?:rate|increase)\(({PREFIX}\w+)", query):
        metric = METRICS.get(name.removeprefix(PREFIX))
        assert metric is None or metric.kind == "counter", f"{where}: {name} may fall"


def test_dashboards_are_found_and_follow_the_chosen_robot():
    names = {board["uid"] for board in (json.loads(path.read_text()) for path in DASHBOARDS)}
    assert names == {"daydreamer-robots", "daydreamer-learning"}
    robots = json.loads((DEPLOY / "grafana" / "dashboards" / "robots.json").read_text())
    assert [variable["name"] for variable in robots["templating"]["list"]] == ["robot"]
    assert all("$robot" in target["expr"] for panel in robots["panels"] for target in panel["targets"])
    source = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    listens = next(word for word in COMPOSE["services"]["prometheus"]["command"] if "listen-address" in word)
    assert source["uid"] == "prometheus" and source["url"].rpartition(":")[2] == listens.rpartition(":")[2]


FILES = sorted(path for path in [*DEPLOY.rglob("*"), ROOT / "docs" / "deploy.md"] if path.is_file())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_commands_in_the_comments_exist(file: Path):
    text = re.sub(r" \\\n#?\s+", " ", file.read_text())
    for line in re.findall(r"^[# ]*(daydreamer .+)$", text, re.MULTILINE):
        parse(shlex.split(line, comments=True)[1:])
