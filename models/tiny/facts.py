"""What the model knows: questions about the small world, each with its answer.

Every maker returns (question template results, answer); `make_fact` picks one.
"""

from grammar import a, many, upper_first, write
from words import ANIMALS, CAPITALS, COLOURS_OF, DAYS, ITEMS, MONTHS, NUMBERS, OPPOSITES, PEOPLE

COUNTS = {"spider": 8, "dog": 4, "cat": 4, "bird": 2, "bee": 6, "horse": 4, "ant": 6, "cow": 4, "hen": 2, "fish": 0}

WHY = [
    ("Why is the sky blue?", "The sky is blue because the air scatters blue light more than red light."),
    ("Why does it rain?", "It rains because small drops of water in the clouds grow heavy and fall."),
    ("Why do birds sing?", "Birds sing to find a friend and to say that a place is theirs."),
    ("Why is the sea salty?", "The sea is salty because rivers carry salt from the stones into it."),
    ("Why do we sleep?", "We sleep because the body and the head need rest."),
    ("Why do leaves fall?", "Leaves fall in autumn because the tree saves its water for the winter."),
    ("Why is snow cold?", "Snow is cold because it is made of frozen water."),
    ("What is the sun?", "The sun is a star. It gives us light and warmth."),
    ("What is the moon?", "The moon is a big ball of rock that goes around the earth."),
    ("What is a star?", "A star is a very hot ball of gas, far away, that shines by itself."),
    ("What is rain?", "Rain is water that falls from the clouds."),
    ("What is snow?", "Snow is frozen water that falls from the clouds in winter."),
    ("What is the wind?", "The wind is air that moves."),
    ("What is a rainbow?", "A rainbow is light in many colours. You can see it when the sun shines through the rain."),
    ("What is a friend?", "A friend is someone who likes you and helps you."),
    ("What is a book?", "A book is many pages with words, and often with a story."),
    ("What is water?", "Water is clear and wet. We drink it every day."),
    ("What is fire?", "Fire is hot and bright. It keeps us warm, but do not touch it."),
    ("What is the meaning of life?", "Nobody knows for sure. I think it is to be kind and to stay curious."),
    ("What is love?", "Love is when you care for someone very much."),
    ("What is a river?", "A river is water that flows to the sea."),
    ("What is a tree?", "A tree is a tall plant with roots, wood and leaves."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("How many months are in a year?", "There are twelve months in a year."),
    ("How many hours are in a day?", "There are 24 hours in a day."),
    ("What are the seasons?", "The four seasons are spring, summer, autumn and winter."),
    ("Is the earth round?", "Yes, the earth is round like a ball."),
    ("What do plants need?", "Plants need light, water, air and good ground."),
    ("What is the biggest animal?", "The blue whale is the biggest animal."),
    ("What is the tallest animal?", "The giraffe is the tallest animal."),
    ("Can you name the colours of the rainbow?", "They are red, orange, yellow, green, blue and violet."),
]


def about_animal(rng):
    animal = rng.choice(ANIMALS)
    kind, one, all_of = animal.kind, a(animal.kind), many(animal.kind)
    ask, answer = rng.choice([
        ("[What is {one}|What are {all_of}|Tell me about {all_of}|Tell me something about the {kind}|Do you know what {one} is]?",
         "{One} is {a_group}. It is {colour}, and it lives {home}.[| It likes to eat {food}.| It can {can}.]"),
        ("[What colour is|What color is|What is the colour of] {one}?", "{One} is [|often ]{colour}."),
        ("[Where does {one} live|Where do {all_of} live|Where can I find {one}]?", "{One} lives {home}."),
        ("[What does {one} eat|What do {all_of} eat|What is the food of {one}]?", "{One} [likes to eat|eats] {food}."),
        ("[What can {one} do|What are {all_of} good at]?", "{One} can {can}."),
        ("[What sound does {one} make|What does {one} say|How does {one} sound]?", "{One} {sound}."),
        ("[What is a young {kind} called|What do you call a baby {kind}|What is the baby of {one}]?",
         "A young {kind} is called {young}."),
        ("Is {one} {a_wrong}?", "{yes_no}"),
    ])
    groups = sorted({other.group for other in ANIMALS})
    wrong = rng.choice(groups + [animal.group])
    yes_no = f"Yes, {one} is {a(wrong)}." if wrong == animal.group else f"No, {one} is {a(animal.group)}."
    slots = {
        "kind": kind, "one": one, "One": upper_first(one), "all_of": all_of, "a_group": a(animal.group),
        "colour": animal.colour, "home": animal.home, "food": animal.food, "can": animal.can,
        "sound": animal.sound, "young": a(animal.young), "a_wrong": a(wrong), "yes_no": yes_no,
    }
    return write(rng, ask, **slots), write(rng, answer, **slots)


def about_colour(rng):
    thing, colour = rng.choice(list(COLOURS_OF.items()) + [("the sky", "blue")] * 4)
    ask = "[What colour is|What color is|What is the colour of|What's the color of] {thing}?"
    return write(rng, ask, thing=thing), f"{upper_first(thing)} is {colour}."


def about_opposite(rng):
    pair = list(rng.choice(OPPOSITES))
    rng.shuffle(pair)
    ask = "[What is the opposite of {0}|What's the opposite of {0}|Tell me the opposite of {0}|What is not {0}]?"
    return write(rng, ask.replace("{0}", "{word}"), word=pair[0]), f"The opposite of {pair[0]} is {pair[1]}."


def about_capital(rng):
    country, city = rng.choice(list(CAPITALS.items()))
    if rng.random() < 0.2:
        return f"Where is {city}?", f"{city} is the capital of {country}."
    ask = "[What is the capital of {land}|What's the capital of {land}|Which city is the capital of {land}|Tell me the capital of {land}|Name the capital of {land}]?"
    return write(rng, ask, land=country), f"The capital of {country} is {city}."


def about_order(rng):
    names, what = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    at = rng.randrange(len(names))
    before, after = names[at - 1], names[(at + 1) % len(names)]
    return rng.choice([
        (f"What {what} comes after {names[at]}?", f"{after} comes after {names[at]}."),
        (f"Which {what} is before {names[at]}?", f"{before} comes before {names[at]}."),
        (f"Name the {what}s.", f"The {what}s are {', '.join(names[:-1])} and {names[-1]}."),
    ])


def about_sum(rng):
    left, right = rng.randrange(0, 11), rng.randrange(0, 11)
    if rng.random() < 0.5:
        word, sign, result = "plus", "+", left + right
    else:
        left, right = max(left, right), min(left, right)
        word, sign, result = "minus", "-", left - right
    if rng.random() < 0.3:
        first, second, answer = NUMBERS[left], NUMBERS[right], NUMBERS[result]
    else:
        first, second, answer = left, right, result
    form = rng.choice([f"{first} {word} {second}", f"{first} {sign} {second}", f"{first}{sign}{second}"])
    if isinstance(first, str):
        form = f"{first} {word} {second}"
    ask = write(rng, "[What is {form}?|What's {form}?|How much is {form}?|{form} = ?|Calculate {form}.|{form}]", form=form)
    return ask, f"{upper_first(str(first))} {word} {second} is {answer}."


def about_count(rng):
    if rng.random() < 0.5:
        last = rng.randrange(3, 21)
        numbers = NUMBERS[1 : last + 1] if rng.random() < 0.4 else [str(n) for n in range(1, last + 1)]
        ask = write(rng, "[Count|Can you count|Please count|Count up] [from one |from 1 |]to {last}.",
                    last=rng.choice((last, NUMBERS[last])))
        return ask, upper_first(", ".join(numbers)) + "."
    kind, legs = rng.choice(list(COUNTS.items()))
    number = NUMBERS[legs] if legs else "no"
    return f"How many legs does {a(kind)} have?", f"{upper_first(a(kind))} has {number} legs."


def about_item(rng):
    noun, use = rng.choice(ITEMS)
    ask = "[What is {one} for|What can I do with {one}|What do you do with {one}|What is {one}|Why would I need {one}]?"
    return write(rng, ask, one=a(noun)), write(rng, "[With {one} you can do many things. You can {use}.|You can {use}.]",
                                               one=a(noun), use=use.replace(" it", f" the {noun}", 1))


def about_list(rng):
    number = rng.randrange(2, 6)
    what, pool = rng.choice([
        ("animals", [animal.kind for animal in ANIMALS]),
        ("colours", ["red", "blue", "green", "yellow", "white", "black", "orange", "brown", "pink", "grey"]),
        ("fruits", ["apples", "pears", "plums", "bananas", "berries", "lemons", "oranges"]),
        ("cities", list(CAPITALS.values())),
        ("countries", list(CAPITALS)),
        ("birds", [many(animal.kind) for animal in ANIMALS if animal.group == "bird"]),
        ("things", [a(noun) for noun, _ in ITEMS]),
        ("jobs", [a(kind) for kind, *_ in PEOPLE if kind in "farmer baker sailor teacher gardener painter doctor".split()]),
    ])
    picked = rng.sample(pool, number)
    ask = write(rng, "[Name|List|Tell me|Give me|Can you name|Write a list of] {number} {what}.",
                number=rng.choice((number, NUMBERS[number])), what=what)
    if rng.random() < 0.3:
        return ask, "\n".join(f"{index}. {upper_first(item)}" for index, item in enumerate(picked, 1))
    return ask, upper_first(", ".join(picked[:-1])) + f" and {picked[-1]}."


def about_why(rng):
    return rng.choice(WHY)


MAKERS = [
    about_animal, about_animal, about_animal, about_colour, about_opposite, about_capital, about_order,
    about_sum, about_sum, about_count, about_item, about_list, about_why, about_why,
]


def make_fact(rng):
    """A question and its true answer."""
    return rng.choice(MAKERS)(rng)
