"""What is shipped: the wheel, the lock files, the container files."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a user would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w"]
    command += [str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_migrations_data_the_dashboard_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "chainrule/app/store/migrations/versions/0001_first_schema.py",
        "chainrule/app/store/migrations/script.py.mako",
        "chainrule/engine/digits.npz",
        "chainrule/app/web/index.html",
        "chainrule/app/web/pages/runs.js",
        "chainrule/app/web/pages/backprop.js",
        "chainrule/app/web/picture.css",
        "chainrule/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]


def test_the_wheel_migrates_and_serves_its_docs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    script = (
        "import chainrule, pathlib, sys\n"
        "from chainrule.app.store.database import Database\n"
        "from chainrule.app.store.migrations import revisions, upgrade\n"
        "from chainrule.app.api.docs import _asset\n"
        f"assert pathlib.Path(chainrule.__file__).is_relative_to({str(unpacked)!r}), chainrule.__file__\n"
        "database = Database('sqlite:///here.sqlite3')\n"
        "upgrade(database)\n"
        "current, newest = revisions(database)\n"
        "assert current == newest is not None\n"
        "assert pathlib.Path(_asset('swagger-ui-bundle.js', 'text/javascript').path).stat().st_size > 100_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(unpacked)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_by_hash_and_no_index_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--(index|extra|find)", text)
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_both_locks_pin_the_same_versions() -> None:
    service, everything = ({*re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / n).read_text(), re.MULTILINE)} for n in LOCKS)
    assert service <= everything


def test_every_direct_dependency_is_justified() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [*project["project"]["dependencies"]]
    named += [entry for extra in project["project"]["optional-dependencies"].values() for entry in extra]
    named += [entry for group in project["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    justified = (ROOT / "docs/dependencies.md").read_text()
    for entry in named:
        name = re.split(r"[\[><=;]", entry)[0].strip()
        assert re.search(rf"^\|[^|]*\b{re.escape(name)}\b[^|]*\|", justified, re.MULTILINE), name


def test_the_compose_file_starts_api_and_workers_after_the_migration_and_has_no_default_secret() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    compose: dict[str, Any] = yaml.safe_load(text)
    services = compose["services"]
    assert set(services) == {"database", "migrate", "api", "worker"}
    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "container_name" not in services["worker"], "a name would keep it from being scaled"
    assert all("POSTGRES_PASSWORD:?" in found for found in re.findall(r"\$\{[^}]*\}", text))
    assert set(compose["volumes"]) == {"database", "api-cache"}


def test_the_image_runs_without_root_and_checks_its_health() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "/v1/health/ready" in last
    assert '["chainrule"]' in last
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for source in line.split()
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert copied <= allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_manifests_of_the_guide_go_with_the_image_and_the_compose_file() -> None:
    guide = (ROOT / "docs/guide/cluster.md").read_text()
    workers, cluster = (yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL))
    assert (workers["kind"], cluster["kind"]) == ("Deployment", "DaskCluster")
    pod, parts = workers["spec"]["template"], [cluster["spec"][part]["spec"] for part in ("scheduler", "worker")]
    assert pod["metadata"]["labels"] == workers["spec"]["selector"]["matchLabels"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-chainrule"]
    (user,) = re.findall(r"^USER (\d+:\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for spec in (pod["spec"], *parts):
        (container,) = spec["containers"]
        assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == user
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
        if container["name"] == "worker":
            assert f"{spec['terminationGracePeriodSeconds']}s" == compose["stop_grace_period"]
            (url,) = [each for each in container["env"] if each["name"] == "CHAINRULE_DATABASE_URL"]
            assert url["valueFrom"] == {"secretKeyRef": {"name": "chainrule", "key": "database-url"}}
    service, name = cluster["spec"]["scheduler"]["service"], cluster["metadata"]["name"]
    assert service["selector"]["dask.org/cluster-name"] == name
    assert f"tls://{name}-scheduler:8786" in guide
    assert f"dask://{name}-scheduler:8786" in guide
