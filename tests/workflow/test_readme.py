"""What the README shows is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.study import Study

pytestmark = pytest.mark.workflow


def test_the_lines_that_read_the_artifacts_run(finished_study: Study, repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    lines = lines.replace("results/demo", "results/tiny").replace("fgsm_v2", "fgsm")
    run = subprocess.run(
        [sys.executable, "-c", lines], cwd=finished_study.folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "1 avg pool" in run.stdout


def test_the_report_is_a_page_with_all_tables_and_figures(study: Study, repository: Path) -> None:
    assert "--report report.html" in (repository / "README.md").read_text(encoding="utf-8")
    study.snakemake("--report", "report.html")
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    made = [*study.folder.glob("results/tiny/tables/*.md"), *study.folder.glob("results/tiny/figures/**/*.png")]
    assert len(made) > 10
    assert [path.name for path in made if path.name not in page] == []


def test_the_links_lead_somewhere(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    missing = [link for link in links if "://" not in link and not (repository / link).exists()]
    assert not missing
