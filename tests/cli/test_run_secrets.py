"""Passwords and tokens in addresses are shown nowhere, whatever an address looks like."""

import pytest

from edgecar.errors import EdgecarError, MediaError
from edgecar.media.sources import source_from
from edgecar.redaction import text_redacted
from edgecar.runtime.cameras import camera_name

SECRET = "qXz7"  # occurs in no other word here

NOBODY = "127.0.0.1:1"
ADDRESSES = [
    f"http://admin:{SECRET}@{NOBODY}/stream.jpg",
    f"HTTP://admin:{SECRET}@{NOBODY}/SNAPSHOT.JPG",
    f"rtsp://admin:{SECRET}@{NOBODY}/live.png",
    f"RTSPS://admin:{SECRET}@{NOBODY}/live",
    f"rtsp://admin:a@{SECRET}/b@{NOBODY}/live.jpg",
    f"rtsp://admin:%40{SECRET}%2F@{NOBODY}/live.jpg",
    f"rtsp://admin:{SECRET}@[::1]:1/live.jpg",
    f"http://{NOBODY}/picture.jpg?token={SECRET}",
    f"http://{NOBODY}/video.mp4?user=admin&auth={SECRET}",
    f"http://{NOBODY}/user=admin_password={SECRET}_channel=1.jpg",
    f" rtsp://admin:{SECRET}@{NOBODY}/live.jpg",  # as it is copied from a page
    f"rtsp:/admin:{SECRET}@{NOBODY}/live.jpg",
    f"admin:{SECRET}@{NOBODY}/live.jpg",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_secret_of_an_input_is_printed(edgecar, address):
    done = edgecar("run", address, "-o", "null", "--network", "edgecar-xs")
    assert done.code == 1
    assert SECRET not in done.out + done.err
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("edgecar: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("address", ADDRESSES[:9])
def test_an_address_is_no_output(edgecar, tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    done = edgecar("run", "nowhere.mp4", "-o", address)
    assert done.code == 1
    assert "edgecar serve" in done.err
    assert SECRET not in done.out + done.err
    assert not list(tmp_path.iterdir())  # nor a folder that is called "http:"


@pytest.mark.parametrize("verb", ["score", "inspect", "batch"])
def test_other_verbs_print_none(edgecar, tmp_path, verb):
    out = ("-o", tmp_path / "out") if verb == "batch" else ()
    extra = (f"rtsp://admin:{SECRET}@{NOBODY}/b.mp4",) if verb == "score" else ()
    done = edgecar(verb, f"rtsp://admin:{SECRET}@{NOBODY}/a.mp4", *extra, *out)
    assert done.code
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("address", [each for each in ADDRESSES if "://" in each])
def test_names_of_cameras_hold_none(address):
    assert SECRET not in camera_name(address)
    assert SECRET not in source_from(address).shown
    assert SECRET not in repr(source_from(address))


@pytest.mark.parametrize("address", [each for each in ADDRESSES if "://" in each])
def test_every_error_hides_addresses_in_it(address):
    """Also where a library's words, which repeat an address, become part of one."""
    for error in (EdgecarError(f"got {address}; give another"), MediaError(f"'{address}': gone")):
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        assert text_redacted(str(error)) == str(error)


def test_a_broken_address_is_one_line(edgecar):
    done = edgecar("run", f"rtsp://admin:{SECRET}@[fe80::1/live", "-o", "null")
    assert done.code == 1
    assert SECRET not in done.err
    assert camera_name("rtsp://[fe80/live") == "fe80_live"


@pytest.mark.parametrize(
    "text",
    [
        "clips/a:b@c.mp4 is a file",
        "C:\\Users\\me@home\\a.mp4",
        "listening on tcp://127.0.0.1:5555; see http://localhost:8321",
        "give rtsp://…, or a file",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert text_redacted(text) == text


def test_json_and_next_commands_print_none(capsys, monkeypatch):
    from edgecar.cli.output import next_step, own_command, print_json

    for address in ADDRESSES:
        print_json({"command": [address], address: {"path": (f"got {address}",)}, "count": 3})
        next_step(f"edgecar run {address} -o null")
        monkeypatch.setattr("sys.argv", ["edgecar", "run", address])
        assert SECRET not in own_command()
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert shown.out.count('"count": 3') == len(ADDRESSES)
