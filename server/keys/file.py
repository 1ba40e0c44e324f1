"""The file of API keys: keys as they are, one a line, or named ones by their hash, with own limits."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bt_model.errors import InvalidValueError, explain, require
from bt_model.settings.refusal import allowed_values, hint_of, validated
from server.settings import KeyLimits, Settings

_HASHED = "sha256:"
_MIN_CHARACTERS = 8
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FORMS = "a key alone, or NAME sha256:HEX and limits (`btchat key new NAME` makes one)"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the file. Uploads, caches and limits belong to `tenant`: its name, or the key itself."""

    digest: bytes
    tenant: str
    limits: KeyLimits
    name: str | None = None


class ApiKeys:
    """All keys, none where no key is asked; `default` is what tenants may do that are not among them."""

    def __init__(self, keys: Sequence[ApiKey] = (), default: KeyLimits | None = None) -> None:
        self.all = tuple(keys)
        self._default = default or KeyLimits()
        self._by_tenant = {key.tenant: key.limits for key in keys}

    def limits(self, tenant: str) -> KeyLimits:
        """What a tenant may do."""
        return self._by_tenant.get(tenant, self._default)

    @property
    def num_tenants(self) -> int:
        """At least the public."""
        return max(len(self._by_tenant), 1)


def load_keys(settings: Settings) -> ApiKeys:
    """The keys of a server's file, which is read at its start.

    Raises:
        InvalidValueError: a file that cannot be read or holds no key, or the first line that is wrong.
    """
    default = KeyLimits(
        max_requests_per_key=settings.max_requests_per_key,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        video_seconds_per_day=settings.video_seconds_per_day,
    )
    path = settings.api_keys_file
    if path is None:
        return ApiKeys(default=default)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"cannot read API keys: {explain(error)}", param="api_keys_file") from error
    keys: list[ApiKey] = []
    for number, line in enumerate(lines, 1):
        if (line := line.strip()) and not line.startswith("#"):
            try:
                keys.append(_with_earlier(_key_of(line, default), keys))
            except InvalidValueError as error:
                text = f"{path}, line {number}: {error.message}"
                raise InvalidValueError(text, param="api_keys_file") from error
    if not keys:
        raise InvalidValueError(f"{path} has no keys; allowed: on each line {_FORMS}", param="api_keys_file")
    return ApiKeys(keys, default)


def digest_of(key: str) -> bytes:
    """What is known of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def line_of(name: str, key: str, limits: Mapping[str, int]) -> str:
    """A named key's line for the file.

    Raises:
        InvalidValueError: a name or a limit that no line can have.
    """
    words = [name, f"{_HASHED}{digest_of(key).hex()}", *(f"{each}={value}" for each, value in limits.items())]
    _require_name(name)
    line = " ".join(words)
    _key_of(line, KeyLimits())
    return line


def _key_of(line: str, default: KeyLimits) -> ApiKey:
    if "sha256" not in line.lower():
        if len(line) < _MIN_CHARACTERS:
            raise InvalidValueError(f"keys need {_MIN_CHARACTERS} characters or more")
        digest = digest_of(line)
        return ApiKey(digest, digest.hex(), default)
    name, hashed, *limits = [*line.split(), ""]
    if not hashed.startswith(_HASHED):  # it may hold a key, and is not shown
        raise InvalidValueError(f"this is no key; allowed: {_FORMS}")
    _require_name(name)
    if not _DIGEST.fullmatch(hashed.removeprefix(_HASHED)):
        allowed = "sha256: and 64 hexadecimal digits"
        raise InvalidValueError(f"the hash of {name} is no SHA-256; allowed: {allowed}")
    digest = bytes.fromhex(hashed.removeprefix(_HASHED))
    own = default.model_dump() | dict(map(_limit, limits[:-1]))
    return ApiKey(digest, f"name:{name}", validated(KeyLimits, own), name)


def _require_name(name: str) -> None:
    allowed = 'up to 64 letters, digits, ".", "_" and "-"'
    require(bool(_NAME.fullmatch(name)), "the name of a key", name, allowed)


def _limit(word: str) -> tuple[str, int]:
    name, _, value = word.partition("=")
    if name not in KeyLimits.model_fields:
        allowed = ", ".join(f"{each}=" for each in KeyLimits.model_fields)
        raise InvalidValueError(f"{name[:40]!r} is no limit of a key; allowed: {allowed}")
    try:
        return name, int(value)
    except ValueError as error:
        allowed = allowed_values(hint_of(KeyLimits.model_fields[name]))
        raise InvalidValueError(f"{name} is {value[:40]!r}; allowed: {allowed}") from error


def _with_earlier(key: ApiKey, earlier: list[ApiKey]) -> ApiKey:
    """The same key, after those of the lines before: the second of a name replaces the first in time."""
    if any(each.digest == key.digest for each in earlier):
        raise InvalidValueError("this key stands in an earlier line, too; delete one of them")
    if any(each.tenant == key.tenant and each.limits != key.limits for each in earlier):
        raise InvalidValueError(f"{key.name} has other limits in an earlier line; give both lines the same")
    return key
