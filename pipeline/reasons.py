"""Every reason for which rights keep an asset out, and the rule behind it in one sentence.

The surprising rule: a reason is a code and, after a colon, which one: ``restricted:generation``. Only codes
are counted, and only those that stand here are given.
"""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, str] = {
    "revoked": "a revocation in effect names it, its bytes, its contributor, its delivery, one of its model "
    "releases or all its licences; or a record of it, of whatever revision, says that it is revoked",
    "superseded": "a record of it with a higher revision was delivered, or its own record says that another "
    "asset took its place",
    "revision_seen": "this very revision was delivered before, and the first counts; a change of an asset "
    "needs a higher asset_revision",
    "contested": "a later record of it is faulty, has no image yet, or says otherwise without a higher "
    "asset_revision; send that record again, mended and with a higher one",
    "restricted": "a revocation in effect ended a use that the corpus needs, for it or for its licence",
    "license_missing": "the licence that it names was not delivered, and no record is no admission",
    "no_license": "picture and words each need a licence, and none that it names covers this part",
    "license_revoked": "the licence that comes nearest to admitting it was revoked",
    "not_yet_valid": "the licence that comes nearest to admitting it begins after the decision's instant",
    "expired": "the licence that comes nearest to admitting it had ended at the decision's instant",
    "expires_soon": "a licence that does not say what follows its end starts no training in its last 30 days",
    "use_not_granted": "the licence that comes nearest to admitting it does not grant a use that the corpus "
    "needs; what is not named is denied",
    "territory": "the licence that comes nearest to admitting it does not reach everywhere that the corpus "
    "is used",
    "model": "the licence that comes nearest to admitting it is limited to other models or programmes",
    "editorial": "editorial pictures are not generated from or shown, unless the licence is for such content",
    "release": "people or property may be generated only under an unlimited release",
    "adult": "the corpus takes no adult content",
    "minors": "the corpus takes no pictures of minors: the record or the file says that one is pictured, or "
    "nobody says how old the people are and the corpus asks for that",
    "embedded_prohibition": "its licence grants the use and its own file forbids it: a person decides",
    "embedded_constraint": "its own file has conditions, or a part that could not be read: a person reads",
    "embedded_release": "its record claims an unlimited release, or that nobody is pictured, and its own "
    "file a lesser release: a person decides",
    "embedded_conflict": "its record and its own file contradict each other: a person decides",
    "usage_restrictions": "the agency sent restrictions in words: a person reads them",
    "resembles_revoked": "its fingerprint is near that of a revoked picture: a person compares them",
    "contract_prevails": "its own file forbids the use, and the contract was signed knowing of that",
}
CODES: frozenset[str] = frozenset(RULES)


def code_of(reason: str) -> str:
    """What is counted of a reason.

    >>> code_of("restricted:generation")
    'restricted'
    """
    return reason.partition(":")[0]


def rule_of(reason: str) -> str | None:
    """The rule behind a reason that rights gave; None for one of another step."""
    return RULES.get(code_of(reason))
