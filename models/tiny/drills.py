"""Exercises that come before the corpus: who was named is named again.

In a story, the name in the first sentence decides the name in the last. That is
hard to find out from stories alone, where all names stand in the same places
and each is rare. Here almost every sentence repeats a name, a thing or a word,
a short way after it was first read; the model learns to look back within
minutes, and then uses it in stories.
"""

from chats import any_words
from grammar import a, sentence_case, upper_first, write
from tokenizer import ASSISTANT, END, USER
from words import ANIMALS, BOY_NAMES, FOODS, GIRL_NAMES, ITEMS, PEOPLE, PLACES

NAMES = GIRL_NAMES + BOY_NAMES
KINDS = [animal.kind for animal in ANIMALS] + [kind for kind, *_ in PEOPLE]
THINGS = [noun for noun, _ in ITEMS]

ABOUT_SOMEONE = [
    "{one} is here.", "I see {one}.", "Where is {one}?", "{one} likes {other}.", "{other} likes {one}.", "This is {one}.",
    '"Hello, {one}," said {other}.', "Look, {one}!", "{one} [sings|laughs|sleeps|smiles].", "Is that {one}?", "Yes, it is {one}.",
    "{one} went home.", "Then {one} came back.", '"Thank you," said {one}.', "There was a {kind} named {one}.",
    "{one} is a {kind}.", "{one} the {kind} met {other}.", "The {kind} is called {one}.", "{one} and {other} [sat down|were friends].",
]
ABOUT_SOMETHING = [
    "This is {a_thing}.", "The {thing} is [old|new|red|here].", "I like the {thing}.", "Where is the {thing}?", "Give me the {thing}.",
    "Here is the {thing}.", "Take the {thing}.", "It is a good {thing}.", "{one} found {a_thing}.", "{one} lost the {thing}.",
]


def name_drill(rng):
    """Sentences about one or two persons, or a person and a thing."""
    one, other = rng.sample(NAMES, 2)
    if rng.random() < 0.4:
        other = one
    thing = rng.choice(THINGS + FOODS + KINDS)
    lines = rng.choice((ABOUT_SOMEONE, ABOUT_SOMEONE, ABOUT_SOMETHING, ABOUT_SOMEONE + ABOUT_SOMETHING))
    slots = {"one": one, "other": other, "kind": rng.choice(KINDS), "thing": thing, "a_thing": a(thing)}
    text = " ".join(write(rng, rng.choice(lines), **slots) for _ in range(rng.randrange(3, 9)))
    return [(sentence_case(text), True)]


def answer_drill(rng):
    """Short questions whose answer is a word of the question."""
    pieces = []
    for _ in range(rng.randrange(1, 5)):
        name, kind = rng.choice(NAMES), rng.choice(KINDS)
        words = " ".join(any_words(rng, rng.randrange(1, 4)))
        place, _ = rng.choice(PLACES)
        ask, answer = rng.choice([
            (f"My name is {name}.", f"Hello, {name}!"), (f"I am {name}. What is my name?", f"Your name is {name}."),
            (f"Tell me a story about {a(kind)}.", f"There was {a(kind)} named {name}."),
            (f"Tell me a story about {name} the {kind}.", f"There was {a(kind)} named {name}."),
            (f"Say {words}", f"{upper_first(words)}."), (f"Say {name} and {kind}", f"{name} and {kind}."),
            (f"Tell me about {words}.", f"I do not know much about {words}."), (f"Describe {place}.", f"This is {place}."),
        ])
        pieces += [(f"{USER}\n{ask}{END}\n{ASSISTANT}\n", False), (answer + END, True), ("\n", False)]
    return pieces[:-2] + [(answer, True)]


def make_drill(rng):
    return rng.choice((name_drill, answer_drill))(rng)
