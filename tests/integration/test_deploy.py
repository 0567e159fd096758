"""The container files: nobody starts them here, but each is read by the tool that would, and by pgseal."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from proxy.config import load_config
from proxy.rules_load import load_rules

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_dockerfile_hadolint_finds_nothing() -> None:
    """The linter of the test environment passes the Dockerfile."""
    tool = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([tool, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout == ""


def test_dockerfile_runs_as_an_ordinary_user() -> None:
    """The last stage switches to a numeric user that is not root."""
    last = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.M)


def test_compose_file_names_only_files_that_exist() -> None:
    """Every bind mount of the compose file is in the project."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    sources = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert sources
    assert all((ROOT / source).exists() for source in sources)


def test_compose_file_docker_compose_reads_it() -> None:
    """`docker-compose config` works without an engine; where the tool is not at hand, YAML must do."""
    tool = shutil.which("docker-compose")
    if tool is None:
        assert yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        return
    answer = subprocess.run([tool, "-f", ROOT / "docker-compose.yml", "config"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_compose_configuration_and_rules_are_valid() -> None:
    """pgseal reads the files that the compose file mounts; their weaknesses are known ones."""
    config = load_config(DEPLOY / "compose" / "pgseal.yaml", {})
    assert set(load_rules(config.rules, config.service.database)) == {"app"}
    assert any("TLS" in weakness for weakness in config.weaknesses())


def test_prometheus_scrapes_the_proxy_of_the_compose_file() -> None:
    """Job and target are the service's."""
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["static_configs"][0]["targets"] for job in jobs] == [["pgseal:9432"]]
