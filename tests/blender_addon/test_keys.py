"""Keys in Blender: shown and copied, taken from a connection file, used, and never in a .blend file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bpy
import pytest

from blender_addon.logic.key_file import KeyFile
from blender_addon.logic.remedies import remedy_for
from blender_addon.logic.settings import Settings, resolved
from blender_addon.services.backend import new_client
from shared import errors, messages
from shared.keys import Connection, make_pair, own_pair, write_connection

from .conftest import ROOT, backend_python, start_backend


def test_the_key_is_kept_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    key, other = KeyFile(tmp_path / "keys" / "key.json"), KeyFile(tmp_path / "keys" / "key.json")
    assert key.text() == ""
    key.put("hush ä")
    assert other.text() == "hush ä"
    assert (tmp_path / "keys" / "key.json").stat().st_mode & 0o077 == 0
    (tmp_path / "keys" / "key.json").write_text("damaged")
    assert other.text() == ""
    key.put("")
    assert not list((tmp_path / "keys").iterdir())


def test_the_preferences_key_is_for_their_backend_and_other_machines_only() -> None:
    own = Settings(address="tcp://127.0.0.1:5", server_key="a" * 40, key="hush")
    assert resolved(own, "", {}).server_key == "a" * 40
    assert resolved(own, "tcp://gpu:1", {}).server_key == "a" * 40
    assert resolved(own, "tcp://127.0.0.1:6", {}).server_key == ""
    assert resolved(own, "", {"EFFIGY_SERVER_KEY": "b" * 40}).server_key == "b" * 40
    assert "hush" not in repr(own)


def test_a_key_that_is_none_is_one_sentence() -> None:
    with pytest.raises(errors.BadConfig, match=r"backend's key is not a key .found 5 letters"):
        new_client(Settings(server_key="short"), "test")


def test_an_unknown_client_is_offered_its_key() -> None:
    remedy = remedy_for("The backend at tcp://gpu:1 does not know this client's key. Add it there")
    assert remedy is not None
    assert remedy.operator == "effigy.copy_own_key"


def test_a_connection_file_without_preferences_says_what_to_do_instead(addon, tmp_path: Path) -> None:
    write_connection(tmp_path / "gpu.json", Connection("tcp://gpu:47615", make_pair().public))
    with pytest.raises(RuntimeError, match="EFFIGY_SERVER_KEY"):
        bpy.ops.effigy.open_connection(filepath=str(tmp_path / "gpu.json"))


def test_my_public_key_is_copied_and_no_secret_is_in_the_blend_file(
    addon, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    monkeypatch.setenv("EFFIGY_KEY", "hush-hush-hush")
    assert bpy.ops.effigy.copy_own_key() == {"FINISHED"}
    pair = own_pair()
    assert (tmp_path / "keys" / "own.json").stat().st_mode & 0o077 == 0
    blend = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend), copy=True, compress=False)
    for secret in (pair.secret, "hush-hush-hush"):
        assert secret.encode() not in blend.read_bytes()


def test_blender_talks_to_a_backend_that_encrypts(
    addon, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what a user does: the keys made and exported by command on one side, copied and opened on the other."""
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "mine"))
    monkeypatch.delenv("EFFIGY_KEY", raising=False)

    def keys(*words: str) -> str:
        command = [backend_python(), "-m", "backend", "keys", *words, "--home", str(home)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    server_key = keys("make")
    keys("add", "anna", own_pair().public)
    assert server_key == keys("show")
    assert "anna" in keys("list")
    backend = start_backend(home, "tcp://127.0.0.1:0", "--encrypt")
    address = backend.address
    try:
        keys("export", str(tmp_path / "gpu.json"), "--address", address)
        assert (tmp_path / "gpu.json").stat().st_mode & 0o077 == 0
        client = new_client(Settings(address=address, server_key=server_key), "test")
        try:
            assert client.request(messages.Ping(), timeout_s=90) is not None
        finally:
            client.close()
        plain = new_client(Settings(address=address), "test")
        with pytest.raises(errors.EffigyError, match="encrypt"):
            plain.request(messages.Ping(), timeout_s=5)
        plain.close()
    finally:
        backend.stop()
