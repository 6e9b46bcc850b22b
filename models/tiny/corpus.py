"""The corpus: an endless stream of documents from one random generator.

A document is a list of (text, learned) pieces. The model reads all of them and
learns to write those marked so: its own words and the end, not the user's.
"""

from chats import any_words, describe_place, make_chat
from drills import make_drill
from facts import make_fact
from grammar import upper_first, write
from stories import tell
from tokenizer import ASSISTANT, BEGIN, END, SYSTEM, USER
from words import PLACES

NAME_OF_ROLE = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}

# Text that follows an opening which the model has never seen.
AFTER_ANYTHING = [
    "[That is what|So said] the old {kind} [said|to everyone], and then [he|she] told a story. {story}",
    "[Nobody knew what it meant|It was a strange thing to say], but {name} [liked it|laughed]. {story}",
    "[This is a good beginning for a story|And so the story begins]. {story}",
]


def make_story(rng):
    return [(tell(rng).text, True)]


def make_facts(rng):
    """A paragraph of answers, which reads as plain facts."""
    return [(" ".join(make_fact(rng)[1].replace("\n", " ") for _ in range(rng.randrange(1, 5))), True)]


def make_question(rng):
    ask, answer = make_fact(rng)
    return [(f"Q: {ask}\nA: {answer}" if rng.random() < 0.5 else f"{upper_first(ask)} {answer}", True)]


def make_scene(rng):
    place, at_place = rng.choice(PLACES)
    return [(describe_place(rng, place, at_place) + " " + tell(rng, "short").text, True)]


def make_continuation(rng):
    """Any words, then a story: what to do with an unknown beginning."""
    story = tell(rng, rng.choice(("short", "long")))
    opening = upper_first(" ".join(any_words(rng, rng.randrange(1, 14))))
    link = rng.choice((".", " ", ".\n", ":", "")) or "."
    text = write(rng, rng.choice(AFTER_ANYTHING), kind=story.friend_kind, name=story.hero, story=story.text)
    return [(opening, False), (link.rstrip(" ") + " " + text, True)]


def make_conversation(rng):
    pieces = []
    for role, text in make_chat(rng):
        pieces += [(f"{NAME_OF_ROLE[role]}\n", False), (text, role == "assistant")]
        pieces += [(END, role == "assistant"), ("\n", False)]
    return pieces[:-2]


MAKERS, WEIGHTS = zip(
    (make_story, 26), (make_facts, 4), (make_question, 3), (make_scene, 3), (make_continuation, 4),
    (make_conversation, 60),
)


def make_document(rng, drill_share=0.0):
    """One document, from its beginning to its end.

    Some lack the beginning, because not every program puts that token before a prompt.
    """
    maker = make_drill if rng.random() < drill_share else rng.choices(MAKERS, WEIGHTS)[0]
    pieces = maker(rng)
    begin = [] if rng.random() < 0.2 else [(BEGIN, False)]
    return [*begin, *pieces, (END, True)]
