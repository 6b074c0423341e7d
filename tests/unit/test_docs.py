"""The docs name files that exist, link to what is there, and stay short enough to be read."""

import re
from pathlib import Path

import pytest
import yaml

from rporec_recbole.version import __version__
from tests.test_layers import ROOMS

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Where a path may begin: at the top, in the package, or in docs/, as `experiments/trunk.md`.
STARTS = (ROOT, ROOT / "rporec_recbole", ROOT / "docs")
# Names without a folder that are no files of ours: what a run leaves, and what an example calls its own.
LEFT_BY_RUNS = {"config.yaml", "best.yaml", "comparison.md", "my_rewards.py", "my_models.py"}
MOST_WORDS = 1500

_PATH = re.compile(r"(?<![\w/.*-])[\w./-]*\w\.(?:py|yaml|md)\b")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PLACEHOLDER = re.compile(r"\b(?:NAME|MODEL|DATASET)\b")


def missing_files(page: Path) -> list[str]:
    """Paths and names of files in a page that stand for nothing; NAME, MODEL and DATASET stand for any word."""
    missing = []
    text = _LINK.sub("]", page.read_text(encoding="utf-8"))
    for path in sorted(set(_PATH.findall(text))):
        if path.startswith(("saved/", "http")) or path in LEFT_BY_RUNS or path == "MODEL-DATASET.yaml":
            continue
        pattern = _PLACEHOLDER.sub("*", path)
        if not any(next(start.glob(pattern), None) for start in (*STARTS, page.parent)):
            missing.append(path)
    return missing


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file, or whose heading in it, is not there."""
    broken = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    return broken


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path):
    assert missing_files(page) == []
    assert broken_links(page) == []


def test_code_and_settings_name_pages_that_are_there():
    files = [
        path
        for folder, kind in (("rporec_recbole", "py"), ("properties", "yaml"))
        for path in (ROOT / folder).rglob(f"*.{kind}")
    ]
    named = {
        (path.name, page)
        for path in files
        for page in re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert [one for one in sorted(named) if not (ROOT / one[1]).is_file()] == []


def test_pages_are_short():
    words = {page.relative_to(ROOT).as_posix(): len(page.read_text(encoding="utf-8").split()) for page in PAGES}
    del words["README.md"]
    assert {page: count for page, count in words.items() if count >= MOST_WORDS} == {}


def test_every_experiment_is_in_the_index_and_begins_with_its_verdict():
    folder = ROOT / "docs/experiments"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for page in sorted(folder.glob("*.md")):
        if page.name != "README.md":
            assert f"({page.name})" in index
            assert page.read_text(encoding="utf-8").split("\n\n")[1].startswith("**Verdict.**"), page.name


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", __version__)
    assert {"message", "title", "authors"} <= citation.keys()  # what the format demands


def test_the_rooms_stand_in_the_architecture_in_their_order():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `([a-z0-9_.]+)` \|", page, re.MULTILINE)
    assert told == ROOMS


def test_a_wrong_name_and_a_broken_link_are_seen(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "`compat.py`, `model/nothing.py`, `model/rporec.py`, `properties/model/RPORec-DATASET.yaml`, saved/RUN/config.yaml\n"
        "[here](page.md), [nowhere](nowhere.md), [heading](page.md#none), [outside](https://example.org/x.md)\n"
    )
    assert missing_files(page) == ["compat.py", "model/nothing.py"]
    assert broken_links(page) == ["nowhere.md", "page.md#none"]
