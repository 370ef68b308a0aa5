"""API keys, their rates, and the command that makes them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieveall.cli.serve import check_keys
from retrieveall.errors import ConfigError, InputError, NotFoundError, RateLimited
from retrieveall.storage import Store
from retrieveall.workspace import Workspace
from serve_apps.access import is_loopback
from serve_apps.args import ServeArgs
from serve_apps.keys import KEYS_FILE, KeyFile, KeyRing
from serve_apps.rates import TextRates
from tests.test_cli_commands import printed, run


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(store=Store.open(tmp_path))


def test_the_file_holds_no_secret_and_the_key_is_found(keys: KeyFile) -> None:
    key, record = keys.create("me", created_at="now", languages=["nl", "de"], texts_per_minute=5)

    secret = key.split("_", 2)[2]
    assert len(secret) == 43 and secret not in keys.store.read_text(KEYS_FILE)
    assert keys.list() == (record,)
    assert record.languages == ("de", "nl")
    ring = KeyRing(keys.list())
    assert ring.find(key) == record
    assert ring.has_rates


@pytest.mark.parametrize("change", ["ra_", "", "x", "ra_000000000000_" + "a" * 43, "ra_ü_" + "é" * 43])
def test_other_keys_are_not_found(keys: KeyFile, change: str) -> None:
    key, record = keys.create("me", created_at="now")
    ring = KeyRing(keys.list())

    assert ring.find(change) is None
    assert ring.find(key + "a") is None
    assert ring.find(f"ra_{record.id}_{'a' * 43}") is None


def test_a_revoked_key_is_listed_and_no_longer_found(keys: KeyFile) -> None:
    key, record = keys.create("me", created_at="now")
    keys.revoke(record.id, revoked_at="later")

    assert KeyRing(keys.list()).find(key) is None
    assert keys.list()[0].revoked_at == "later"
    for again in (record.id, "000000000000"):
        with pytest.raises(NotFoundError, match="no good key"):
            keys.revoke(again, revoked_at="later")


def test_keys_made_at_once_are_all_kept(keys: KeyFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: keys.create(f"key {i}", created_at="now")[0], range(16)))
    ring = KeyRing(keys.list())
    assert all(ring.find(key) for key in made)


def test_bad_wishes_and_files_are_refused(keys: KeyFile) -> None:
    for name, languages, rate in (
        ("", None, None),
        ("a\nb", None, None),
        ("a", ["../x"], None),
        ("a", None, 0),
    ):
        with pytest.raises(InputError):
            keys.create(name, created_at="now", languages=languages, texts_per_minute=rate)
    keys.store.write_text(KEYS_FILE, '{"keys": []}')
    with pytest.raises(ConfigError, match="format"):
        keys.list()


def test_a_rate_is_saved_up_for_a_minute_and_divided_among_replicas() -> None:
    now_s = 0.0
    rates = TextRates(lambda: now_s)
    rates.spend("k", 60, 59)
    rates.spend("k", 60, 100)  # something was left, so it goes in and is waited for afterwards
    with pytest.raises(RateLimited, match="after 100 seconds"):
        rates.spend("k", 60, 1)
    rates.spend("other", 60, 1)
    rates.spend("free", None, 10**9)

    now_s = 101.0
    rates.spend("k", 60, 1)
    now_s, rates.replicas = 10_000.0, 4
    rates.spend("k", 60, 15)
    with pytest.raises(RateLimited, match="15 of them to each of 4"):
        rates.spend("k", 60, 1)


def test_a_share_below_one_text_a_minute_still_lets_texts_in() -> None:
    now_s = 0.0
    rates = TextRates(lambda: now_s)
    rates.replicas = 4
    rates.spend("k", 1, 1)
    with pytest.raises(RateLimited, match="after 240 seconds"):
        rates.spend("k", 1, 1)
    now_s = 241.0
    rates.spend("k", 1, 1)


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    Workspace.open(tmp_path, create=True)
    made = printed(tmp_path, "keys", "create", "me", "--languages", "nl, de", "--admin")
    plain = run(tmp_path, "keys", "create", "you").stdout.strip()
    listed = printed(tmp_path, "keys", "list")

    ring = KeyRing(KeyFile(store=Store.open(tmp_path)).list())
    assert ring.find(made["key"]) and ring.find(plain)
    assert [row["name"] for row in listed] == ["me", "you"]
    assert "secret_sha256" not in json.dumps([made, listed])
    assert printed(tmp_path, "keys", "revoke", made["id"])["revoked_at"]
    assert "me" in run(tmp_path, "keys", "list").stdout


def test_keys_are_only_left_out_on_a_loopback_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Workspace.open(tmp_path, create=True)
    off = ServeArgs(workspace=str(tmp_path), keys="off")
    for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
        with pytest.raises(ConfigError, match="--no-keys"):
            check_keys(off, host)
    check_keys(off, "127.0.0.1")
    check_keys(ServeArgs(workspace=str(tmp_path)), "0.0.0.0")
    assert "keys create" in capsys.readouterr().err


def test_loopback_names() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert not any(map(is_loopback, ("", "localhost.evil.example", "10.0.0.1", "0.0.0.0")))
