"""Names of classes that are known by their WordNet ids, such as n01440764."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

WORDNET_ID = re.compile(r"n\d{8}")


def name_classes(wordnet_ids: Sequence[str], synonyms: Mapping[str, str]) -> list[str]:
    """A name a class, its id and its first synonym: "n01440764 tench".

    synonyms: those that the data set itself gives, by id, separated by commas. Others are timm's, for ids that timm
    knows; without any, the id is the name.
    """
    missing = [one for one in wordnet_ids if one not in synonyms and WORDNET_ID.fullmatch(one)]
    words = {**synonyms, **_timm_synonyms(missing)} if missing else synonyms
    return [f"{one} {words.get(one, '').split(',')[0]}".strip() for one in wordnet_ids]


def synonyms_of_lines(lines: Sequence[str]) -> dict[str, str]:
    """Synonyms by id, from lines of an id, a tab or spaces, and the synonyms."""
    pairs = (line.split(None, 1) for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _timm_synonyms(wordnet_ids: Sequence[str]) -> dict[str, str]:
    from timm.data import ImageNetInfo  # slow to import, and most data sets bring their own words

    info, found = ImageNetInfo(), {}
    for one in wordnet_ids:
        try:
            found[one] = info.label_name_to_description(one)
        except KeyError:  # a class of nobody else's
            continue
    return found
