"""Images with C2PA manifests, signed by a certificate that nobody trusts."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import c2pa as sdk
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from PIL import Image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8))
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
CREATED = {
    "label": "c2pa.actions",
    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE}]},
}
SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False},
}


def encoded(kind: str) -> bytes:
    sink = io.BytesIO()
    PICTURE.save(sink, kind)
    return sink.getvalue()


def mime(image: bytes) -> str:
    return {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp"}[image[:2]]


def mining(label: str, entries: Any) -> dict[str, Any]:
    """The assertion ``training-mining`` of the standard (``cawg`` or ``c2pa``)."""
    return {"label": f"{label}.training-mining", "data": {"entries": entries}}


def said(label: str, entry: str, use: str) -> dict[str, Any]:
    return mining(label, {entry: {"use": use}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    chain: bytes
    key: bytes

    def signer(self) -> Any:
        return sdk.Signer.from_info(sdk.C2paSignerInfo(b"es256", self.chain, self.key, None))


@functools.cache
def identity(ocsp: str = "") -> Identity:
    """A leaf under an authority of its own, as C2PA wants it (2.1, 14.5.1). ``ocsp`` is the address where it
    says its revocation can be asked for.
    """
    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Root", keys[0], keys[0], [(x509.BasicConstraints(ca=True, path_length=None), True)])
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]
    if ocsp:
        at = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
        extensions.append((x509.AuthorityInformationAccess([at]), False))
    leaf = certificate("Leaf", keys[1], keys[0], extensions)
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Identity(chain=leaf + root, key=keys[1].private_bytes(pem, *plain))


def certificate(
    name: str,
    own: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> bytes:
    ca = own is issuer
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    made = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("Root"))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=30))
    )
    named_keys: list[tuple[x509.ExtensionType, bool]] = [
        (x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False),
        (x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False),
    ]
    for extension, critical in (*named_keys, *extensions):
        made = made.add_extension(extension, critical)
    return made.sign(issuer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def named(name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def signed(
    image: bytes,
    *assertions: dict[str, Any],
    parent: bytes = b"",
    by: Identity | None = None,
    address: str = "",
) -> bytes:
    """The image with a manifest; made from ``parent``, if any; or with only the manifest's ``address``."""
    definition = {
        "claim_generator_info": [{"name": "tests", "version": "1"}],
        "assertions": [*([] if parent else [CREATED]), *assertions],
    }
    sink = io.BytesIO()
    with sdk.Context.from_dict(SETTINGS) as context, sdk.Builder(definition, context=context) as builder:
        if parent:
            builder.set_intent(sdk.C2paBuilderIntent.EDIT)
            builder.add_ingredient({"relationship": "parentOf"}, mime(parent), io.BytesIO(parent))
        if address:
            builder.set_remote_url(address)
            builder.set_no_embed()
        with (by or identity()).signer() as signer:
            builder.sign(signer, mime(image), io.BytesIO(image), sink)
    return sink.getvalue()
