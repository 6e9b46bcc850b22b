"""Short stories: a cast, an opening, one of several plots, an ending.

A plot is a list of sentences. One that begins with `?` is left out of short
stories and, now and then, of long ones. The cast fills the slots, so that the
hero, the friend and the thing they care about stay the same to the end.
"""

from dataclasses import dataclass

from grammar import a, sentence_case, upper_first, write
from words import ANIMALS, BOY_NAMES, FEARS, FOODS, GIRL_NAMES, ITEM_LOOKS, ITEMS, NATURES, PEOPLE, PLACES, SKILLS

PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}


@dataclass
class Story:
    """The text, and what a reader could be asked about it."""

    text: str
    hero: str
    kind: str
    pronoun: str
    his: str
    friend: str
    friend_kind: str
    home: str
    item: str


OPENINGS = [
    "Once upon a time there was {a_kind} named {name}. {he} lived {home}.",
    "Once upon a time, {a_kind} named {name} lived {home}.",
    "Once upon a time, [in a quiet valley|in a land far away|near a deep forest|long before today|in a small green country], there lived {a_kind} named {name}.",
    "Once there was {a_kind} [called|named] {name}, who lived {home}.",
    "There once was {a_kind} who lived {home}. {his} name was {name}.",
    "Long ago, {a_kind} named {name} lived {home}.",
    "{name} was {a_kind}. {he} lived {home} [with many friends|all alone|and liked it there].",
    "{home}, there lived {a_kind} [called|named] {name}.",
    "A [long|very long] time ago, there was {a_kind} named {name}.",
    "{a_kind} named {name} lived {home}. Everyone [knew|liked|loved] {him}.",
    "This is the story of {name}, {a_kind} who lived {home}.",
    "In the morning, {name} the {kind} woke up [early|late|with a smile]. {he} lived {home}.",
    "[One|On a] [sunny|cold|quiet|warm|rainy|windy] morning, {name} the {kind} [looked out of the window|went for a walk|ate a big breakfast].",
    "It was a [sunny|cold|quiet|warm|rainy|windy] [morning|day]. {name} the {kind} [looked out of the window|went for a walk|sat in front of the house].",
    "The {kind} was {nature}. {his} name was {name}, and {he} lived {home}.",
    "The little {kind} lived {home}. {his} name was {name}.",
    "Every day, {name} the {kind} [walked|went|ran] to {place}.",
]

PLOTS = {
    "lost thing": [
        "{name} had {a_item}, and {he} loved it [very much|more than anything|with all {his} heart].",
        "?Every evening, {he} liked to {use}.",
        "One day, the {item} was gone.",
        '?"Oh no! Where is my {item}?" {said} {name}.',
        "{name} looked [under the bed|behind the door|in every corner], but it was not there.",
        "?{he} looked {at_place}. {he} looked {at_place2}. There was no {item}.",
        "Then {name} met {friend} the {fkind}.",
        '?"[Why are you so sad|What is wrong|Can I help you], {name}?" {asked} {friend}.',
        '?"I have lost my {item}," {said} {name}. "[Have you seen it|Will you help me]?"',
        "[They looked together|The two of them searched] until the sun went down.",
        "At last, {friend} found the {item} {at_place3}.",
        '?"Here it is!" {fhe} {said}.',
        "{name} was so [happy|glad] that {he} [gave {friend} a big hug|danced|laughed out loud].",
    ],
    "gift": [
        "{name} had a good friend, {friend} the {fkind}.",
        "?It was {friend}'s birthday the next day, and {name} had no gift.",
        "{name} wanted to give {friend} something [nice|special|beautiful].",
        '?"What would {friend} like?" {name} thought.',
        "So {he} went to {place} and found {a_item}.",
        "?It was [a little dirty|a little broken|covered with leaves], so {name} cleaned it and made it [pretty|shine|as good as new].",
        "?{he} put it into a small box and walked all the way to {friend}'s house.",
        '?"This is for you," {said} {name}.',
        "{friend} opened the box and [smiled|laughed|jumped with joy].",
        '?"Now I can {use}!" {said} {friend}. "Thank you, {name}!"',
        "They [ate {food} together|talked until late|sang and danced] that evening.",
    ],
    "storm": [
        "One day, {name} went to {place} to [look for {food}|play|visit a friend].",
        "?The sky was [blue|clear] and the birds were singing.",
        "Then dark clouds came, and it began to [rain|snow|storm].",
        "?The wind blew [hard|loudly|through the trees], and {name} was [cold|wet|afraid].",
        "{he} saw a light {at_place}.",
        "It was the house of {friend} the {fkind}.",
        '?"Come in, come in!" {said} {friend}. "You are all wet."',
        "{friend} gave {him} a warm blanket and some hot [soup|tea|milk].",
        "?They sat by the fire and listened to the [rain|wind].",
        "?{friend} told {him} a [funny|long|strange] story about {a_item}.",
        "In the morning, the [storm was over|sun was shining again].",
        '?"Come back soon," {said} {friend}.',
        "{name} went home and never forgot how kind {friend} had been.",
    ],
    "fear": [
        "{name} was afraid of {fear}.",
        "?The others laughed at {him}, and that made {him} sad.",
        "One day, {he} met {friend} the {fkind} {at_place}.",
        '"[I am afraid of {fear}|There is something I am afraid of]," {said} {name}.',
        '"[Everyone is afraid of something|Once I was afraid too]," {said} {friend}. "[Take my hand|Stay close to me|Let us try it together]."',
        "?At first, {name} wanted to run away.",
        "?{he} closed {his} eyes and counted to [three|five|ten].",
        "Step by step, {name} became [braver|less afraid].",
        "?Soon {he} opened {his} eyes and saw that [nothing bad had happened|all was well].",
        '?"You did it!" {said} {friend}.',
        "From that day on, {name} was not so afraid of {fear}.",
    ],
    "race": [
        "One day, {friend} the {fkind} said, \"[I am faster than you|I can run faster than anyone], {name}.\"",
        '"[Let us have a race|Let us see]," {said} {name}.',
        "They ran from {place} to {place2}.",
        "?Everyone came to watch them.",
        "At first, {friend} was far ahead.",
        "Then {friend} [stopped to eat some {food}|stopped to rest|fell into the mud], and {name} went on and on.",
        "?{name} was tired, but {he} did not stop.",
        "In the end, {name} [won the race|came first].",
        '?"[You are slow, but you never stop|Well done]," {said} {friend}. "[I have learned something today|You are the winner]."',
        "They shared some {food} and were [good friends|friends again|the best of friends].",
    ],
    "lost way": [
        "One day, {name} walked [too far|very far] from home.",
        "?{he} followed [a butterfly|a bird|a little stream] and did not look back.",
        "Soon {he} did not know the way.",
        "?The sun was going down, and the trees were very tall.",
        '?"I want to go home," {said} {name}, and {he} began to cry.',
        "{friend} the {fkind} heard {him}.",
        '"[Do not be afraid|Do not cry]," {said} {friend}. "I know the way."',
        "They walked past {place} and over {place2}.",
        "?{friend} showed {him} the stars and told {him} their names.",
        "At last, {name} saw {his} own [house|door|home].",
        '?"Thank you, {friend}," {said} {name}. "[You are a true friend|I will never forget this]."',
        "{name} went to bed and slept [well|until noon|very deeply].",
    ],
    "noise": [
        "One night, {name} heard a strange noise.",
        "?It came from {place}.",
        '"[What is that|Who is there]?" {said} {name}.',
        "?{he} took {a_item} and went outside.",
        "?It was very dark, and {his} heart was beating fast.",
        "The noise came again, [louder than before|very near].",
        "{name} looked behind [a tree|the wall|a big stone], and there was {friend} the {fkind}.",
        '"[I was only looking for {food}|I cannot sleep|I was singing to the moon]," {said} {friend}.',
        "{name} [laughed|began to laugh] and was not afraid any more.",
        "?They sat down together and looked at the [moon|stars].",
    ],
    "learning": [
        "{name} wanted to learn to {skill}.",
        "?All {his} friends could do it, but {he} could not.",
        "{he} asked {friend} the {fkind} for help.",
        '?"It is not easy," {said} {friend}, "but I will teach you."',
        "The first time, {name} [failed|did it all wrong|fell down].",
        "?The second time, it was a little better.",
        '?"I will never learn it," {said} {name}. "[Try again|Do not give up]," {said} {friend}.',
        "{name} tried again [every day|every morning|day after day].",
        "At last, {he} {did_skill}.",
        "?Everyone [clapped|cheered|was surprised].",
        "{friend} was very proud of {him}.",
    ],
    "sharing": [
        "One day, {name} found [a basket of|some|a lot of] {food} {at_place}.",
        '?"This is all for me," {name} thought.',
        "?{he} wanted to eat it all by {him}self.",
        "Then {friend} the {fkind} came by. {fhe} was [hungry|tired and hungry].",
        '?"I have not eaten all day," {said} {friend}.',
        "{name} looked at the {food} and thought [about it|for a while].",
        'Then {he} {said}, "[Sit down and eat with me|Half of it is for you|Take as much as you like]."',
        "They ate until [nothing was left|they were full].",
        "?The next day, {friend} came back with {a_item} for {name}.",
        "?Now {name} could {use}.",
        "Food is best when [it is shared|you eat it with a friend].",
    ],
    "making": [
        "One day, {name} wanted to [make a big pot of soup|bake a cake|plant a garden|build a small house].",
        "?{he} worked all morning, but it was too hard to do alone.",
        '?{he} asked {friend} the {fkind}, "Will you help me?"',
        "{friend} the {fkind} came to help.",
        "{name} brought [water|wood|a spoon], and {friend} brought {food} and {a_item}.",
        "?They worked side by side and sang a song.",
        "?Once, [it all fell down|everything went wrong], but they only laughed and began again.",
        "In the evening, [it was done|they were ready].",
        '?"It is the best one I have ever seen," {said} {friend}.',
        "Together, {name} and {friend} had made something [wonderful|good|beautiful].",
    ],
    "magic": [
        "One night, {name} found {a_item} {at_place}.",
        "?It was [warm|shining in the dark|very light].",
        '"[You may make one wish|Ask me for anything|I can help you]," {said} a small voice.',
        "?{name} looked around, but nobody was there. The {item} could talk!",
        "{name} thought [for a long time|long and hard].",
        '?"I could ask for gold," {he} thought, "or for a mountain of {food}."',
        '"I wish for [a good friend|someone to play with]," {he} {said} at last.',
        "The next morning, {friend} the {fkind} [knocked at the door|stood in front of the house].",
        '?"[Hello|Good morning]! I am new here," {said} {friend}. "[Do you want to play|Can we be friends]?"',
        "The {item} never spoke again, but {name} [did not mind|kept it for ever].",
    ],
}

# A plot for a subject that nobody in this small world knows anything about.
TOPIC_PLOT = [
    "One day, {name} heard someone talk about {topic}.",
    '?"What is that?" {name} thought.',
    "?{he} asked the [trees|birds|stones], but they did not know.",
    "So {he} went to {friend} the {fkind}, who was very wise.",
    '"[Tell me|Can you tell me something] about {topic}," {said} {name}.',
    '{friend} [smiled|thought for a while]. "[It is a big subject|It takes a long time to learn|There is much to say about it]," {fhe} {said}. "[Begin with one small step|Ask one question every day|Read a little every evening]."',
    "?{name} listened [until the moon came up|carefully] and asked many questions.",
    "{name} went home and dreamed of {topic}.",
]

ENDINGS = [
    "And they [all|both] lived happily ever after.",
    "From that day on, they were the best of friends.",
    "It was the best day of {his} life.",
    "{name} [smiled|was happy] and went to sleep.",
    "And that is the end of the story.",
    "The end.",
    "That night, {name} dreamed of {place}.",
    "{name} and {friend} are friends to this day.",
    "And if you go to {place}, you may [see|meet] them there.",
    "{name} never forgot that day.",
]

LESSONS = [
    "It is good to have a friend.",
    "A kind word costs nothing.",
    "Small friends can be a big help.",
    "If you do not give up, you will get there.",
    "Two can do more than one.",
    "It is brave to ask for help.",
    "Sharing makes everyone happy.",
]

ONE_SENTENCE = [
    "Once upon a time, {a_kind} named {name} found {a_item} {at_place} and gave it to {his} friend {friend}.",
    "{name} the {kind} learned to {skill}, and everyone was proud of {him}.",
    "{a_kind} named {name} walked to {place}, met {friend} the {fkind}, and came home happy.",
    "Long ago, {a_kind} lost {a_item} and found a friend.",
    "{name} the {kind} was afraid of {fear} until {friend} the {fkind} took {his} hand.",
]


def pick_being(rng, kind=None):
    """A kind, its pronoun and its home; animals and people alike."""
    beings = [(animal.kind, "any", animal.home) for animal in ANIMALS] + PEOPLE
    if kind:
        beings = [being for being in beings if being[0] == kind] or [(kind, "any", "in a small house")]
    kind, pronoun, home = rng.choice(beings)
    return kind, rng.choice(("she", "he")) if pronoun == "any" else pronoun, home


def cast(rng, kind=None, name=None, item=None, topic=""):
    """Values for every slot of a story."""
    kind, pronoun, home = pick_being(rng, kind)
    friend_kind, friend_pronoun, _ = pick_being(rng)
    he, him, his = PRONOUNS[pronoun]
    names = {"she": GIRL_NAMES, "he": BOY_NAMES}
    name = name or rng.choice(names[pronoun])
    friend = rng.choice([other for other in names[friend_pronoun] if other != name])
    noun, use = next((row for row in ITEMS if row[0] == item), None) or rng.choice(ITEMS)
    (place, at_place), (place2, at_place2), (_, at_place3) = rng.sample(PLACES, 3)
    skill, did_skill = rng.choice(SKILLS)
    nature = rng.choice(NATURES)
    return {
        "kind": kind, "a_kind": a(f"{nature} {kind}"), "nature": nature, "name": name, "home": home,
        "he": he, "him": him, "his": his,
        "friend": friend, "fkind": friend_kind, "fhe": friend_pronoun,
        "item": noun, "a_item": a(f"{rng.choice(ITEM_LOOKS)} {noun}"), "use": use,
        "place": place, "at_place": at_place, "place2": place2, "at_place2": at_place2, "at_place3": at_place3,
        "food": rng.choice(FOODS), "skill": skill, "did_skill": did_skill, "fear": rng.choice(FEARS),
        "topic": topic,
    }


def tell(rng, length="any", kind=None, name=None, item=None, topic=""):
    """A story: of one sentence, "short", "long", or "any" of the last two."""
    slots = cast(rng, kind, name, item, topic)
    if length == "any":
        length = rng.choice(("short", "long", "long"))

    if length == "one sentence":
        lines = [rng.choice(ONE_SENTENCE)]
    else:
        # Stories of an asked-for thing are those in which it matters.
        plots = ["lost thing", "gift", "magic"] if item else list(PLOTS)
        plot = TOPIC_PLOT if topic else PLOTS[rng.choice(plots)]
        keep = 0.15 if length == "short" else 0.8
        lines = [rng.choice(OPENINGS)]
        lines += [line.lstrip("?") for line in plot if line[0] != "?" or rng.random() < keep]
        if length == "long" or rng.random() < 0.3:
            lines += [rng.choice(LESSONS)] if rng.random() < 0.3 else []
            lines += [rng.choice(ENDINGS)]

    sentences = []
    for line in lines:
        said = rng.choice(("said", "said", "said", "cried" if "!" in line else "said"))
        sentences.append(sentence_case(write(rng, line, **slots, said=said, asked="asked")))
    separator = "\n\n" if length == "long" and rng.random() < 0.15 else " "
    middle = len(sentences) // 2
    text = " ".join(sentences[:middle]) + separator + " ".join(sentences[middle:]) if middle else sentences[0]
    return Story(
        upper_first(text), slots["name"], slots["kind"], slots["he"], slots["his"], slots["friend"],
        slots["fkind"], slots["home"], slots["item"],
    )
