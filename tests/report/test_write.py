"""Files: the form by the suffix, refusals in time, nothing half written."""

import pytest

from edgecar.errors import DataError, SettingsError
from edgecar.report.content import report_of
from edgecar.report.write import check_path, write_report
from tests.report.conftest import results_of, video_row


@pytest.fixture
def report():
    return report_of(results_of("video", [video_row()]))


@pytest.mark.parametrize(
    ("name", "start"), [("a.html", "<!DOCTYPE"), ("a.HTML", "<!DOCTYPE"), ("a.md", "# H.264")]
)
def test_the_suffix_chooses_the_form(report, tmp_path, name, start):
    path = tmp_path / "new" / name
    check_path(path)
    write_report(path, report)
    assert path.read_text(encoding="utf-8").startswith(start)
    assert [found.name for found in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.html.gz"])
def test_other_suffixes_are_refused(report, tmp_path, name):
    for refused in (check_path, lambda path: write_report(path, report)):
        with pytest.raises(SettingsError, match=r"need \.html, \.md or \.json: name it so"):
            refused(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused(report, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.html"
    for refused in (check_path, lambda path: write_report(path, report)):
        with pytest.raises(SettingsError, match=r"cannot write report .* give a file in a folder"):
            refused(path)
    (tmp_path / "a.html").mkdir()
    with pytest.raises(SettingsError, match="is a folder; give the name of a file"):
        check_path(tmp_path / "a.html")


def test_checking_leaves_nothing_behind_and_an_old_report_as_it_is(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")
    check_path(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_half_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(DataError):
        write_report(path, report_of(results_of("video", [video_row(gain=float("inf"))])))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_report(report, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(SettingsError, match="no space left on device"):
        write_report(path, report)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
