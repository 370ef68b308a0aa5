from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.digests import canonical_json, digest_bytes, digest_file, digest_folder, digest_json
from retrieveall.errors import NotFoundError


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_the_order_of_keys_does_not_matter(values: dict[str, int | str]) -> None:
    backwards = dict(reversed(values.items()))
    assert canonical_json(values) == canonical_json(backwards)
    assert digest_json(values) == digest_json(backwards)


def test_canonical_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"f1": float("nan")})


def test_short_digests_are_the_start_of_sha256() -> None:
    assert digest_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()[:16] == "ba7816bf8f01cfea"


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "a").write_bytes(b"x")
        (tmp_path / folder / "b").write_bytes(b"y")
    same = digest_folder(tmp_path / "one")
    assert digest_folder(tmp_path / "two") == same
    assert digest_folder(tmp_path / "one", ["b"]) != same
    (tmp_path / "two" / "b").rename(tmp_path / "two" / "c")
    assert digest_folder(tmp_path / "two") != same


def test_what_is_not_there_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        digest_folder(tmp_path / "nothing")
    with pytest.raises(NotFoundError):
        digest_file(tmp_path / "nothing")
