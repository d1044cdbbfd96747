"""Renaming, throwing away and bringing back avatars, through a server and through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from avatars.avatar_facts import avatar_facts, coverage
from avatars.avatar_folder import LABEL, avatar_digest, describe_avatar, load_avatar
from avatars.files import write_seal
from backend.cli import main
from backend.launcher import RunningServer
from backend.library import Library
from backend.trash import Trash
from shared import messages
from shared.client import BackendClient
from shared.desk_messages import ChangeAvatar, GetAvatarInfo, GetLog, GetStatus, ListTrash
from shared.errors import BadConfig, BadMessage, NotFound


@pytest.fixture
def places(tmp_path: Path, avatar_folder: Path) -> tuple[Library, Trash]:
    """A library with tiny.avatar, and an empty trash."""
    shutil.copytree(avatar_folder, tmp_path / "library" / "tiny.avatar")
    return Library(tmp_path / "library"), Trash(tmp_path / "trash")


def test_a_new_name_leaves_id_and_digest_alone(places: tuple[Library, Trash]) -> None:
    library, _ = places
    folder = library.path("tiny")
    before = avatar_digest(folder)
    library.rename("tiny", "Größe Zwei")
    assert library.summary("tiny").name == "Größe Zwei"
    assert library.summary("tiny").digest == before
    assert load_avatar(folder).rig().joint_names
    for bad in ("", ".hidden", "a/b", "x" * 61, "line\nbreak", "CON", "nul.txt", "anna.", "anna ", "a:b"):
        with pytest.raises(BadConfig, match="cannot be an avatar's"):
            library.rename("tiny", bad)
    assert library.summary("tiny").name == "Größe Zwei"


def test_a_new_avatar_gets_a_folder_of_its_own_on_every_system(
    places: tuple[Library, Trash], avatar_folder: Path, tmp_path: Path
) -> None:
    """Simulated by names alone: Windows takes CON.avatar for a device and TINY.avatar for tiny.avatar."""
    library, _ = places
    made = []
    for number, name in enumerate(("TINY", "con", "../..", "COM1", "x" * 300)):
        shutil.copytree(avatar_folder, tmp_path / str(number))
        made.append(library.adopt(tmp_path / str(number), name))
    assert made[0].startswith("TINY-")
    assert made[1:4] == ["avatar_con", "avatar", "avatar_COM1"]
    assert len(made[4]) == 60
    assert len({one.casefold() for one in library.ids()}) == len(library.ids()) == 6


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"name": 7}', b'{"name": ""}', b"\xff\xfe", b"[" * 4000, b" " * 9999]
)
def test_a_damaged_label_gives_the_first_name(places: tuple[Library, Trash], content: bytes) -> None:
    library, _ = places
    first = library.summary("tiny").name
    (library.path("tiny") / LABEL).write_bytes(content)
    assert describe_avatar(library.path("tiny")).name == first


def test_to_the_trash_and_back(places: tuple[Library, Trash]) -> None:
    library, trash = places
    digest = library.summary("tiny").digest
    library.rename("tiny", "Anna")
    entry = trash.throw(library.path("tiny"))
    assert library.ids() == []
    (thrown,) = trash.summaries()
    assert (thrown.avatar_id, thrown.name, thrown.digest) == (entry, "Anna", digest)
    assert trash.restore(entry, library) == "tiny"
    assert library.summary("tiny").digest == digest
    assert trash.summaries() == ()


def test_two_of_a_name_and_a_taken_place(places: tuple[Library, Trash], avatar_folder: Path) -> None:
    library, trash = places
    first = trash.throw(library.path("tiny"))
    shutil.copytree(avatar_folder, library.folder / "tiny.avatar")
    second = trash.throw(library.path("tiny"))
    assert first != second
    with pytest.raises(NotFound, match="'tiny' is in the trash 2 times"):
        trash.restore("tiny", library)
    assert trash.restore(first, library) == "tiny"
    again = trash.restore("tiny", library)  # one is left, so the avatar's own id says which
    assert again.startswith("tiny-")
    assert len(library.ids()) == 2


@pytest.mark.parametrize("bad", ["", "tiny", "../tiny", "tiny~20261128T101500-1a2b3c", "~", "a~b"])
def test_what_is_not_in_the_trash_is_said_so(places: tuple[Library, Trash], bad: str) -> None:
    library, trash = places
    for action in ("restore", "purge"):
        with pytest.raises(NotFound, match="in the trash"):
            trash.restore(bad, library) if action == "restore" else trash.purge(bad)
    assert library.ids() == ["tiny"]


def test_purging_and_emptying(places: tuple[Library, Trash], tmp_path: Path) -> None:
    library, trash = places
    job = tmp_path / "20261128-101500-1a2b3c"
    job.mkdir()
    trash.throw(job)
    entry = trash.throw(library.path("tiny"))
    assert [item.avatar_id for item in trash.summaries()] == [entry], "a job's folder is no avatar"
    trash.purge(entry)
    assert trash.summaries() == ()
    assert trash.empty() == 1
    assert trash.empty() == 0


def test_facts_tell_quality_coverage_licence_and_consent(places: tuple[Library, Trash]) -> None:
    folder = places[0].path("tiny")
    document = json.loads((folder / "avatar.json").read_text())
    document["training"] = {
        "metrics": {"psnr_db": 31.26, "ssim": 0.9571, "flip": 0.0812, "gaussians": 15000},
        "coverage": {
            "train": {
                "yaw_min_deg": -41.7,
                "yaw_max_deg": 40.2,
                "pitch_min_deg": -12.0,
                "pitch_max_deg": 20.4,
                "cells_filled": 15,
                "cells": 18,
            }
        },
    }
    document["consent"], document["provenance"] = "given", {"subject": "anna", "synthetic": True, "files": [1, 2]}
    (folder / "avatar.json").write_text(json.dumps(document))
    write_seal(folder / "avatar.json")
    facts = avatar_facts(folder)
    assert facts["Held-out quality"] == "PSNR 31.3 dB, SSIM 0.957, FLIP 0.081"
    assert facts["Gaussians"] == "15,000"
    assert facts["Coverage"] == "-42° to 40° sideways, -12° to 20° up, 83 % of it seen"
    assert (facts["Consent"], facts["From: subject"], facts["From: synthetic"]) == ("given", "anna", "yes")
    assert "From: files" not in facts
    assert coverage({"cells": 0}) == ""


def test_through_a_server(client: BackendClient, server: RunningServer) -> None:
    info = client.request(GetAvatarInfo("tiny"))
    assert info.digest == client.request(messages.ListAvatars()).avatars[0].digest
    assert info.preview.shape[2] == 4
    assert np.ptp(info.preview[..., 3]) > 0, "a picture of somebody"
    assert info.facts["Licence"]
    client.request(ChangeAvatar("tiny", "rename", "Anna"))
    assert client.request(GetAvatarInfo("tiny")).facts["Name"] == "Anna"
    entry = client.request(ChangeAvatar("tiny", "trash")).detail
    assert client.request(messages.ListAvatars()).avatars == ()
    assert [item.avatar_id for item in client.request(ListTrash()).avatars] == [entry]
    with pytest.raises(NotFound, match="no avatar 'tiny'"):
        client.request(ChangeAvatar("tiny", "trash"))
    assert client.request(ChangeAvatar(entry, "restore")).detail == "tiny"
    with pytest.raises(BadMessage, match="did you mean 'rename'"):
        client.request(ChangeAvatar("tiny", "renam"))
    with pytest.raises(BadConfig):
        client.request(ChangeAvatar("tiny", "rename", " . "))
    assert client.request(messages.GetAvatar("tiny"), timeout_s=60).summary.name == "Anna", "it still loads"


def test_status_and_log(client: BackendClient, server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    client.request(messages.GetAvatar("tiny"), timeout_s=60)  # the renderer is up then
    status = client.request(GetStatus())
    assert status.device.startswith("cpu")
    assert 0 < status.memory_used_bytes < status.memory_total_bytes
    assert (status.renders_waiting, status.jobs_waiting, status.jobs_running) == (0, 0, 0)
    assert status.up_s > 0
    assert "listening at" in client.request(GetLog()).text
    with pytest.raises(NotFound, match="no job"):
        client.request(GetLog("../../etc/passwd"))


def test_on_the_command_line(places: tuple[Library, Trash], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert main(["library", *words, "--home", str(tmp_path)]) == 0
        return capsys.readouterr().out.strip()

    assert said("rename", "tiny", "Anna") == "tiny"
    assert json.loads(said("info", "tiny", "--json"))["Name"] == "Anna"
    entry = said("trash", "tiny")
    assert [item["name"] for item in json.loads(said("list-trash", "--json"))] == ["Anna"]
    assert said("restore", entry) == "tiny"
    entry = said("trash", "tiny")
    said("purge", entry)
    assert said("empty-trash") == "0 deleted"
    assert main(["library", "restore", entry, "--home", str(tmp_path)]) == 2
    assert "in the trash" in capsys.readouterr().err
