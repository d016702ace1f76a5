"""The workflows: what they run exists, and they may do no more than they have to."""

import os
import re
import subprocess
import sys

import pytest
import yaml

import cells
import links

FOLDER = cells.ROOT / ".github" / "workflows"
MAKEFILE = (cells.ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M))


def workflow(name):
    return yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))


def steps(name):
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def made(text):
    """The targets that the commands in `text` make."""
    commands = re.findall(r"^make (.+)$", text, re.M)
    return [target for command in commands for target in command.split()]


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yml")))
def test_jobs_end_may_read_and_run_what_there_is(name):
    file = workflow(name)
    assert file["permissions"] == {"contents": "read"}
    for job in file["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
    for step in steps(name):
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))
        assert set(made(step.get("run", ""))) <= TARGETS
        if "setup-python" in step.get("uses", ""):
            assert step["with"]["python-version"] in ("3.11", "3.12", "3.13")


def test_the_tests_are_those_of_ci():
    ours = [target for step in steps("test") for target in made(step.get("run", ""))]
    ci = (cells.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert ours == made(ci) and "test" in ours
    assert workflow("test")["env"]["ATTNRES_PRESET"] == "ci" and "ATTNRES_PRESET=ci" in ci


def test_pages_are_published_from_the_repository_that_the_setting_names():
    address, build, publish = (workflow("pages")["jobs"][name] for name in (
        "address", "build", "publish"))
    assert address["outputs"] == {"repo": "${{ steps.setting.outputs.repo }}"}
    assert build["if"] == "needs.address.outputs.repo == github.repository"
    assert (build["needs"], publish["needs"]) == ("address", "build")
    assert "site" in made("\n".join(step.get("run", "") for step in build["steps"]))
    assert {"path": "build/site"} in [step.get("with") for step in build["steps"]]


def test_who_may_publish_runs_nothing_of_ours():
    jobs = workflow("pages")["jobs"]
    publish = jobs.pop("publish")
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    (step,) = publish["steps"]
    assert step["uses"].startswith("actions/deploy-pages@")
    assert not any("permissions" in job for job in jobs.values())


@pytest.mark.parametrize(("repository", "says"), [
    ("someone/else", f"::notice::Nothing is published: .* {links.setting()}"),
    (links.setting().upper(), ""),
])
def test_the_setting_is_read_and_a_skipped_job_says_why(tmp_path, repository, says):
    script = next(s["run"] for s in steps("pages") if s.get("id") == "setting")
    (tmp_path / "python").symlink_to(sys.executable)
    environment = os.environ | {"GITHUB_OUTPUT": str(tmp_path / "output"),
                                "GITHUB_REPOSITORY": repository,
                                "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-e", "-c", script], cwd=cells.ROOT, env=environment,
                          capture_output=True, text=True, check=True)
    assert (tmp_path / "output").read_text(encoding="utf-8") == f"repo={links.setting()}\n"
    assert re.fullmatch(says and says + r".*\n", done.stdout)
