"""Keys stay with their owner: files that only the owner reads, nothing secret in what is shown, damage told plainly."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from shared.errors import BadConfig, EnvironmentFailed
from shared.keys import (
    Connection,
    Login,
    check_key,
    login,
    make_pair,
    own_pair,
    pair_in,
    read_connection,
    write_connection,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


def test_a_pair_is_made_once_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    pair = own_pair()
    assert own_pair() == pair
    assert login(f" {pair.public}\n").own == pair
    assert make_pair() != pair


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_what_is_secret_is_readable_by_its_owner_only(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        pair_in(tmp_path / "keys" / "own.json")
        write_connection(tmp_path / "gpu.json", Connection("tcp://gpu:47615", make_pair().public, "hush"))
    finally:
        os.umask(before)
    for path in (tmp_path / "keys" / "own.json", tmp_path / "gpu.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.iterdir()} == {"keys", "gpu.json"}


@posix
def test_a_key_file_that_others_can_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    pair_in(tmp_path / "own.json")
    (tmp_path / "own.json").chmod(0o644)
    with pytest.raises(EnvironmentFailed, match=r"Others can read this key file .*own\.json.*chmod 600"):
        pair_in(tmp_path / "own.json")


def test_nothing_secret_is_shown() -> None:
    pair = make_pair()
    shown = f"{pair!r} {Login(pair.public, pair)!r} {Connection('tcp://a:1', pair.public, 'hush')!r}"
    assert pair.public in shown
    assert pair.secret not in shown
    assert "hush" not in shown


def test_a_connection_file_says_what_a_client_needs(tmp_path: Path) -> None:
    there = Connection("tcp://[2001:db8::1]:47615", make_pair().public, "hush")
    write_connection(tmp_path / "ä b.json", there)
    assert read_connection(tmp_path / "ä b.json") == there


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"effigy_connection": 2, "address": "a", "server_key": "", "key": ""},
        {"effigy_connection": 1, "address": 5, "server_key": "", "key": ""},
        {"effigy_connection": 1, "address": "a", "server_key": "short", "key": ""},
    ],
)
def test_what_is_no_connection_file_is_one_sentence(tmp_path: Path, document: object) -> None:
    path = tmp_path / "gpu.json"
    path.touch(0o600)
    path.write_text(json.dumps(document))
    with pytest.raises(BadConfig, match=r"no connection file|is not a key"):
        read_connection(path)


@pytest.mark.parametrize("damage", ["", "{", "[" * 100_000, '{"public": "x", "secret": "y"}', "null"])
def test_a_damaged_pair_is_told_and_not_replaced(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "own.json"
    path.touch(0o600)
    path.write_text(damage)
    with pytest.raises(BadConfig):
        pair_in(path)
    assert path.read_text() == damage


def test_two_halves_of_different_pairs_are_no_pair(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.touch(0o600)
    path.write_text(json.dumps({"public": make_pair().public, "secret": make_pair().secret}))
    with pytest.raises(BadConfig, match="no key pair"):
        pair_in(path)


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "g" * 64, "ä" * 64, "-" + "a" * 63, "٣" * 64])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="is not a key"):
        check_key(text)


def test_a_pair_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_pair().secret = ""  # type: ignore[misc]


def test_a_key_is_the_same_however_it_was_pasted() -> None:
    public = make_pair().public
    assert check_key(f"  {public.upper()}\n") == public
