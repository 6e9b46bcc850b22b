"""The few tools with which templates become sentences."""

import re

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SENTENCE_START = re.compile(r"(^|[.!?]\s+|\n)([a-z])")


def write(rng, template, **slots):
    """Resolve `[this|that]` choices from the inside out, then `{slots}`.

    Slots come last, so that a user's own brackets in a slot stay as they are.
    """
    while "[" in template:
        template = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)
    return template.format_map(slots)


def a(noun):
    """The noun with its indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def many(noun):
    """The plural of a noun of `words.py`."""
    irregular = {"mouse": "mice", "wolf": "wolves", "deer": "deer", "sheep": "sheep"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def upper_first(text):
    return text[:1].upper() + text[1:]


def sentence_case(text):
    """Start every sentence with a capital letter."""
    return SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
