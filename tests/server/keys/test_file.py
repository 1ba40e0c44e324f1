"""The file of API keys: what a line may be, and what is said of one that is wrong."""

import hashlib
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from server.keys.file import ApiKeys, digest_of, line_of, load_keys
from server.settings import KeyLimits, Settings

HEX = hashlib.sha256(b"the key of a gateway").hexdigest()


def keys_of(folder: Path, *lines: str) -> ApiKeys:
    file = folder / "keys"
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_keys(Settings(api_keys_file=file, requests_per_minute=60))


def test_without_a_file_there_are_no_keys_and_all_clients_are_one(tmp_path: Path) -> None:
    keys = load_keys(Settings(requests_per_minute=7))
    assert (keys.all, keys.num_tenants, keys.limits("public").requests_per_minute) == ((), 1, 7)


def test_a_line_is_a_key_or_a_name_with_a_hash_and_limits(tmp_path: Path) -> None:
    named = f"  gateway\tsha256:{HEX.upper()}  tokens_per_minute=1000 max_requests_per_key=3  "
    plain, gateway = keys_of(tmp_path, "# two tenants", "", "plain key 1", named).all
    assert (plain.digest, plain.tenant, plain.name) == (digest_of("plain key 1"), plain.digest.hex(), None)
    assert plain.limits == KeyLimits(requests_per_minute=60)
    assert (gateway.digest.hex(), gateway.tenant, gateway.name) == (HEX, "name:gateway", "gateway")
    assert gateway.limits == KeyLimits(requests_per_minute=60, tokens_per_minute=1000, max_requests_per_key=3)


def test_a_key_is_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    lines = [f"{line_of('gateway', key, {'tokens_per_minute': 9})}" for key in ("the old one", "the new one")]
    keys = keys_of(tmp_path, *lines)
    assert [key.tenant for key in keys.all] == ["name:gateway"] * 2
    assert keys.num_tenants == 1
    assert keys.limits("name:gateway").tokens_per_minute == 9


WRONG = {
    "short": "keys need 8 characters or more",
    f"gateway sha256={HEX}": "this is no key; allowed: a key alone, or NAME sha256:HEX and limits",
    f"two words sha256:{HEX}": "this is no key; allowed",
    f"sha256:{HEX}": "this is no key; allowed",
    f"a/b sha256:{HEX}": "the name of a key is 'a/b'; allowed: up to 64 letters",
    "gateway sha256:abc": "the hash of gateway is no SHA-256; allowed: sha256: and 64 hexadecimal digits",
    f"gateway sha256:{HEX} speed=3": "'speed' is no limit of a key; allowed: max_requests_per_key=, ",
    f"gateway sha256:{HEX} tokens_per_minute=x": "tokens_per_minute is 'x'; allowed: a whole number, 0",
    f"gateway sha256:{HEX} tokens_per_minute=-1": "tokens_per_minute is -1; allowed: a whole number, 0",
    f"gateway sha256:{HEX} max_requests_per_key=0": "max_requests_per_key is 0; allowed: a whole number, 1",
    "the-first-key": "this key stands in an earlier line, too",
    f"first sha256:{HEX} tokens_per_minute=2": "first has other limits in an earlier line",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_told_by_its_number_in_one_line(tmp_path: Path, line: str) -> None:
    good = ["the-first-key", line_of("first", "another key", {})]
    with pytest.raises(InvalidValueError) as caught:
        keys_of(tmp_path, *good, "# a remark", line)
    assert caught.value.message.startswith(f"{tmp_path / 'keys'}, line 4: {WRONG[line]}")
    assert "\n" not in caught.value.message
    assert "two words" not in caught.value.message, "it may be a key"
    assert caught.value.param == "api_keys_file"
