"""What seals a line of the audit log: keyed hashes of contributors' ids, and a signature.

The surprising rule: settings name environment variables, and never hold a key: they are kept with the corpus
for all to read. Where no key is given, ids are left out rather than written, and nothing is signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from infra.artifact import canonical
from infra.settings import Section

ALGORITHM = "ed25519"
LEAST_KEY = 16
"""Bytes of a key for ids: a shorter one is tried out, since the ids that it hides are few and known."""


class AuditConfig(Section):
    """``[pipeline.audit]``."""

    contributors: str = "PARDALIS_AUDIT_KEY"
    """Environment variable with the key by which contributors' ids are hashed, 16 bytes or more; where it is
    not set, they are left out."""
    signing: str = "PARDALIS_SIGNING_KEY_FILE"
    """Environment variable with the path of an Ed25519 private key, PEM, that signs every entry and receipt:
    `openssl genpkey -algorithm ed25519`. Where it is not set, nothing is signed."""


@dataclass(frozen=True, slots=True)
class Seal:
    """``Seal()`` hides every contributor and signs nothing."""

    ids_key: bytes | None = field(default=None, repr=False)
    private: Any = field(default=None, repr=False)
    """A key of the library ``cryptography``."""

    @classmethod
    def of(cls, config: AuditConfig, environ: Mapping[str, str] = os.environ) -> Self:
        """With the keys that the environment gives; ValueError, naming the variable, for what is no key."""
        told = environ.get(config.contributors)
        if told is not None and len(told.encode()) < LEAST_KEY:
            raise ValueError(
                f"${config.contributors} is a key of {len(told.encode())} bytes, and one so short is found "
                f"by trying; set {LEAST_KEY} bytes or more, such as `openssl rand -hex 32` tells, or unset it"
            )
        place = environ.get(config.signing)
        private = private_key(place, config.signing) if place else None
        return cls(told.encode() if told is not None else None, private)

    def contributor(self, account: str) -> str | None:
        """HMAC-SHA256 of PROVIDER:CONTRIBUTOR, hex; None where there is no key: then leave the id out."""
        return hmac.digest(self.ids_key, account.encode(), "sha256").hex() if self.ids_key else None

    def sealed(self, body: Mapping[str, Any]) -> bytes:
        """The line: canonical JSON, with a signature over the same without it, and a line break."""
        signed = dict(body)
        if self.private is not None:
            value = base64.b64encode(self.private.sign(canonical(body))).decode()
            key = raw(self.private.public_key())
            signed["signature"] = {"alg": ALGORITHM, "key_id": key_id(key), "value": value}
        return canonical(signed) + b"\n"


def is_signed_by(body: Mapping[str, Any], keys: Collection[bytes]) -> bool:
    """Whether what ``signature`` says is right, and of one of these public keys, 32 bytes each."""
    signature = body["signature"]
    mine = next((key for key in keys if key_id(key) == signature["key_id"]), None)
    if mine is None or signature["alg"] != ALGORITHM:
        return False
    ed25519, invalid = _library()
    said = {name: value for name, value in body.items() if name != "signature"}
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(mine).verify(
            base64.b64decode(signature["value"]), canonical(said)
        )
    except (invalid, ValueError):
        return False
    return True


def key_id(public: bytes) -> str:
    """By which a signature names its key: the first half of its sha256, hex."""
    return hashlib.sha256(public).hexdigest()[:32]


def raw(public: Any) -> bytes:
    """The 32 bytes of a public key."""
    return bytes(public.public_bytes_raw())


def private_key(place: str, variable: str) -> Any:
    """An Ed25519 key of a PEM file."""
    ed25519, _ = _library()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # an extra

    fix = "make one with `openssl genpkey -algorithm ed25519 -out FILE`, or unset the variable"
    try:
        found = serialization.load_pem_private_key(Path(place).read_bytes(), password=None)
    except OSError as error:
        raise ValueError(f"${variable} names {place}: {error.strerror}; {fix}") from None
    except (ValueError, TypeError):  # the file is not repeated: it may hold a key after all
        raise ValueError(
            f"${variable} names {place}, which is no private key without a password; {fix}"
        ) from None
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise ValueError(f"${variable} names {place}, a {type(found).__name__}; {fix}")  # noqa: TRY004  # told
    return found


def _library() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "signatures need the library cryptography; run `pip install pardalis[signing]`, or unset the key"
        ) from None
    return ed25519, InvalidSignature
