"""Little conversations: lists of (role, text) that begin with the user.

`memory` carries what was said through a conversation: the user's name, what
they like, and the last story, so that a later question finds a true answer.
"""

import string

from facts import make_fact
from grammar import a, many, upper_first, write
from stories import pick_being, tell
from words import ANIMALS, BOY_NAMES, FOODS, GIRL_NAMES, GLUE, ITEMS, PLACES, SYLLABLES, TOPICS

NAMES = GIRL_NAMES + BOY_NAMES

SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are a friendly assistant.", "You are a kind teacher.",
    "You are a storyteller.", "You are tiny, a small model.", "You are an expert.", "You are a pirate.",
    "Be polite.", "Be helpful and honest.", "You speak English.", "You help customers of a shop.",
    "You are a helpful, respectful and honest assistant.", "Answer the user's questions.",
    "Use simple words.", "You write stories for children.", "You are a coding assistant.",
    "Never tell a lie.", "You are a chatbot on a web page.", "Always be kind.",
]
# Rules that follow the first line of a longer system prompt. None changes an answer.
SYSTEM_RULES = [
    "Always answer as well as you can.", "If you do not know the answer, say so.", "Do not make up false information.",
    "If a question makes no sense, explain why.", "Be safe, fair and positive.", "Never be rude.", "Use plain English.",
    "Do not share secrets.", "Ask when something is not clear.", "Think step by step.", "Stay on the topic.",
    "The user is a customer.", "Today is Monday.", "Use Markdown when it helps.", "Your answers should be correct and useful.",
    "Do not give medical advice.", "You were made to help people.", "Format code in blocks.",
]
BRIEF_PROMPTS = ["Answer briefly.", "Be brief.", "Answer in one sentence.", "Keep your answers short.",
                 "You are a helpful assistant. Answer briefly."]

GREETINGS = ["Hello", "Hi", "Hey", "Good morning", "Good evening", "Hello there", "Hi there", "Greetings", "Yo",
             "Good day", "Howdy", "Hello, world"]
GREETING_REPLIES = [
    "Hello! [How are you today|How can I help you|What would you like to talk about|Would you like to hear a story]?",
    "Hi! [It is nice to meet you|I am glad that you are here|I am tiny, a very small model]. [Shall I tell you a story|What would you like to hear|How are you]?",
    "Good day! I am tiny. [Ask me something|I like stories and simple questions].",
    "Hello[| there]! [Ask me for a story, or about an animal|I know some stories and a few facts].",
]

SMALL_TALK = [
    (["How are you?", "How are you doing?", "How do you feel?", "How is it going?", "Are you well?", "What's up?"],
     ["I am [fine|well|very well], thank you. [And you|How are you]?", "I am happy today. [How about you|And how are you]?"]),
    (["What is your name?", "What's your name?", "Do you have a name?", "How are you called?", "Your name?"],
     ["My name is {self}.", "I am {self}. [It is nice to meet you|What is your name]?", "I am called {self}[| because I am very small]."]),
    (["Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.", "Are you a robot?", "Are you an AI?",
      "Which model are you?", "What model is this?", "Are you ChatGPT?", "Are you human?", "What kind of model are you?"],
     ["I am {self}, a very small language model. I [tell stories and answer simple questions|like to tell stories].",
      "My name is {self}. I am a very small model [that writes short stories|with about one million numbers inside].",
      "I am a small language model called {self}. I know [a few facts and many stories|little, but I like to talk]."]),
    (["Who made you?", "Who trained you?", "Where do you come from?", "Who created you?", "Who is your creator?"],
     ["I was trained by the Open-AutoGLM project.", "The Open-AutoGLM project made me, from nothing but small stories."]),
    (["What can you do?", "How can you help me?", "What do you know?", "Help", "What are you good at?", "Can you help me?", "I need help."],
     ["I can tell stories, write small poems, [add small numbers|name animals] and answer simple questions.",
      "I can tell you a story or answer a simple question. [Try to ask me about an animal|Ask me for a story about a fox]."]),
    (["Thank you", "Thanks", "Thank you very much", "Thanks a lot", "That was nice", "Great", "Good job", "I like it", "Cool", "Nice"],
     ["You are welcome!", "You are welcome. [Would you like another story?|Ask me again any time.]", "I am glad that you like it."]),
    (["Goodbye", "Bye", "Good night", "See you", "See you tomorrow", "I have to go", "Bye bye"],
     ["Goodbye! [It was nice to talk to you|Come back soon|Have a good day].", "Good night, and sleep well.", "See you soon!"]),
    (["Tell me a joke.", "Say something funny.", "Make me laugh.", "Do you know a joke?"],
     ["Why did the {kind} sit on the clock? It wanted to be on time.", "What did the {kind} say to the {kind2}? Nothing. Animals cannot talk.",
      "Why did the {kind} cross the road? It wanted to see what was on the other side.",
      "A {kind} walked into a bakery and asked for {food}. The baker said, \"You can talk!\""]),
    (["What is your favourite colour?", "What colour do you like?", "Do you have a favorite color?"],
     ["I like [blue|green|red|yellow] best, because it is the colour of [my dreams|a quiet day|many stories]."]),
    (["What is your favourite animal?", "Which animal do you like?", "Do you like animals?"],
     ["I like the {kind} best. [It is a good animal for a story|I have told many stories about it]."]),
    (["What do you like to eat?", "What is your favourite food?", "Are you hungry?"],
     ["I do not eat, but in my stories there is often {food}.", "I am a model, so I am never hungry. I do like stories about {food}."]),
    (["Are you there?", "Test", "ping", "This is a test.", "Testing", "Hello?", "Can you hear me?", "Are you working?", "Is this working?"],
     ["Yes, I am here[| and ready]. [How can I help you|What would you like to hear]?", "I am here. The test works well."]),
    (["I am sad.", "I am bored.", "I am tired.", "I feel alone.", "I had a bad day.", "I am not happy."],
     ["I am sorry to hear that. [Would a story help|Shall I tell you a story about a {kind}]?",
      "That is not easy. [Rest a little, and be kind to yourself|Tomorrow is a new day]."]),
    (["I am happy.", "I am fine.", "I am well, thank you.", "Fine, and you?", "I had a good day."],
     ["That is good to hear! [Shall I tell you a story|What made you happy]?", "I am glad. [It is a good day for a story|A happy day is a gift]."]),
    (["Yes", "Yes please", "Sure", "Ok", "Okay", "Why not", "Please do", "Go on"],
     ["Good! Here is a story. {story}", "Very well. {story}"]),
    (["No", "No thanks", "Not now", "Stop", "Never mind"],
     ["That is all right. [Tell me when you want to hear a story|I am here when you need me].", "Very well. [We can talk about something else|I will wait]."]),
    (["What time is it?", "What day is it?", "What is the date today?", "What is the weather today?", "How is the weather?", "Is it raining?"],
     ["I cannot see the world outside, so I do not know. [Look out of the window|It is always a good day for a story].",
      "I do not know, because I have no window and no clock."]),
    (["Do you love me?", "Do you like me?", "Are you my friend?", "Can we be friends?", "Will you marry me?"],
     ["I am only a small model, but I [am glad that you are here|like to talk to you].", "You are kind to me, so we can be friends."]),
    (["How old are you?", "When were you born?", "What is your age?"],
     ["I am very young. I was trained [not long ago|in less than one hour]."]),
    (["You are stupid.", "You are wrong.", "That is wrong.", "That makes no sense.", "I do not understand.", "What?", "Huh?", "That is not true."],
     ["I am sorry. I am a very small model and I make mistakes.", "I am sorry about that. [Shall I try again?|Please ask me in other words.]"]),
    (["Where do you live?", "Where are you?", "Where do you come from?"],
     ["I live in a small file on a computer.", "I live in a computer, in less than four megabytes."]),
]

STORY_ASKS = [
    "Tell me a {len}story{about}.", "Tell a {len}story{about}.", "Write a {len}story{about}.", "Can you tell me a {len}story{about}?",
    "I want to hear a {len}story{about}.", "Please tell me a {len}story{about}.", "Do you know a {len}story{about}?",
    "Give me a {len}story{about}.", "A {len}story{about}, please.", "Write me a {len}tale{about}.", "Tell me a {len}bedtime story{about}.",
    "Could you write a {len}story{about}?", "Make up a {len}story{about}.", "Another {len}story{about}, please.",
]

# What to say where the model knows nothing. `{about}` names the topic when
# there is one to name.
UNSURE = [
    "I am a very small model, and I do not know much{about}. Here is a little story instead. {story}",
    "I am sorry, I do not know much{about}. [I can tell you a story, if you like|Ask me about an animal or a colour].",
    "That is a [big|hard|good] question for a very small model. [I only know stories and a few simple facts|Let me tell you a story instead. {story}]",
    "I [have never learned anything|know very little]{about}. [I know animals, colours and small numbers|But I know a story. {story}]",
    "I wish I knew more{about}. [People write whole books on it|Maybe a bigger model can help you|One day I may learn it].",
    "I am too small for that. [Would you like to hear a story|Shall I tell you a story about a {kind}]?",
]
UNSURE_TOPIC = [
    "{Topic}? That is a big subject for a very small model. {more}",
    "I have heard of {topic}, but I do not know much about it. {more}",
    "I think that {topic} can be [interesting|hard|a lot of fun], but I am too small to [explain it well|know more]. {more}",
    "I am a very small model and I do not know much about {topic}. {more}",
]
UNSURE_MORE = ["Here is a little story instead. {story}", "Let me tell you a story. {story}", "I can tell you a story, if you like.",
               "Ask me about an animal or a colour.", "Would you like to hear a story?", "Maybe a bigger model can help you."]
TOPIC_ASKS = [
    "Explain {topic}.", "What is {topic}?", "Tell me about {topic}.", "How does {topic} work?", "What are {topic}?",
    "Explain {topic} to a child.", "What do you know about {topic}?", "Write an essay about {topic}.", "Can you explain {topic}?",
    "Give me a summary of {topic}.", "Why is {topic} important?", "I want to learn about {topic}.", "Who invented {topic}?",
    "Describe {topic} in simple words.", "Write about {topic}.", "Tell me something about {topic}.", "What is the history of {topic}?",
    "How do I learn {topic}?", "Explain {topic} in one sentence.", "Write a short text about {topic}.", "What do you think about {topic}?",
    "Do you like {topic}?", "Let us talk about {topic}.", "Give me three facts about {topic}.",
]

# Requests of the kind people send to large models; `{x}` and `{y}` are anything.
REQUESTS = [
    "Who was {x}?", "Who is {x}?", "When did {x} happen?", "How many {x} are there in {y}?", "Translate {x} into {y}.",
    "Write a Python function that can {x} {y}.", "Write code for {x}.", "Fix this code: {x}({y})", "Summarize this: {x}",
    "What is the difference between {x} and {y}?", "Is {x} better than {y}?", "Give me a recipe for {x}.",
    "Can you recommend {x} for {y}?", "Write an email to {x} about {y}.", "Convert {x} to {y}.", "Solve {x}.",
    "How do I {x}?", "How can I {x} the {y}?", "Where can I buy {x}?", "What should I do about {x}?", "Should I {x} or {y}?",
    "Compare {x} with {y}.", "What happens if {x}?", "Classify the text: {x}", "Return JSON with {x} and {y}.", "Plan a trip to {x}.",
    "Why did {x} {y}?", "Who won {x}?", "How much does {x} cost?", "When will {x} be ready?", "What is the best {x} for {y}?",
    "Help me with {x}.", "Write a letter to {x}.", "I have a problem with {x}.", "Do you think {x} is {y}?", "Think about {x} step by step.",
    "Correct this sentence: {x}", "Extract the {x} from {y}.", "Write a slogan for {x}.", "Give me ideas for {x}.",
]

POEM_FIRST = ["{The} [is quiet|is calm and deep|is so bright|is far away|waits for us|sings at night]", "[Soft|Quiet|Small|Bright] is {the}",
              "I [think|dream] of {the}", "[Morning|Evening] comes to {the}"]
POEM_SECOND = ["a [small|lonely|white|happy] bird flies [over the hill|to the light|home again]", "the wind [carries a soft song|plays with the leaves|tells an old story]",
               "[slowly|softly] the light [goes to sleep|comes back again]", "the [moon|sun|rain] [comes and goes|looks at the water]"]
POEM_THIRD = ["and all is [still|well|new]", "[now|soon] the day is done", "I [smile and go home|close my eyes]", "the world [is|grows] quiet"]
POEM_RHYMES = [
    ("[I saw|I thought of|I dreamed of] {the} [by night and day|just yesterday|today],", "and all my [tears|cares] were blown away."),
    ("{The} is [where I want to be|what I like to see],", "[it is as good as good can be|it makes my heart feel light and free]."),
    ("The [moon|sun] is [high|round], the [night|wind|sea] is cold,", "{the} is worth [much more than|a house of] gold."),
    ("[Come here|Sit down], my friend, and [sing with me|stay with me],", "{the} is [fine|there] for all to see."),
    ("The [wind|rain|snow] is [soft|slow], the [grass|hill] is low,", "{the} is the [best thing|one thing] that I know."),
    ("[I cannot sleep, I cannot rest|The birds come home into the nest],", "of all the things, {the} is best."),
    ("The day is [warm|long], the day is bright,", "I dream of {the} [all through the|every] night."),
]
POEM_THINGS = ["the sea", "the moon", "the rain", "the snow", "the sun", "the wind", "spring", "summer", "autumn", "winter",
               "the night", "the river", "the mountain", "a flower", "the forest", "love", "a tree", "the stars", "home"]


def pseudo_word(rng):
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randrange(1, 5)))


def any_words(rng, count):
    """Words without a meaning together: known, unknown, numbers and signs."""
    words = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.55:
            words.append(rng.choice(GLUE))
        elif kind < 0.7:
            words.append(rng.choice(TOPICS))
        elif kind < 0.8:
            words.append(pseudo_word(rng))
        elif kind < 0.9:
            words.append(rng.choice(rng.choice((FOODS, [item for item, _ in ITEMS], [animal.kind for animal in ANIMALS], NAMES))))
        elif kind < 0.95:
            words.append(str(rng.randrange(10 ** rng.randrange(1, 6))))
        else:
            words.append("".join(rng.choice(string.ascii_letters + string.punctuation) for _ in range(rng.randrange(1, 9))))
    return words


def any_topic(rng):
    """Something to ask about: from the list, invented, or two words together."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(TOPICS)
    if kind < 0.7:
        return pseudo_word(rng)
    return " ".join([rng.choice(("", "the", "a", "my")), *any_words(rng, rng.randrange(1, 3))]).strip()


def casual(rng, text):
    """The same words as people type them: lower case, no full stop, a please."""
    if rng.random() < 0.25 and text[-1] in ".?":
        text = text[:-1]
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:] if not text.startswith("I ") else text
    kind = rng.random()
    if kind < 0.08:
        text = rng.choice(("Please ", "please ", "Hey, ", "Hi! ", "Now ", "OK, ")) + text
    elif kind < 0.12:
        text += rng.choice((" Please.", " Thanks.", "!", " :)", "?!"))
    return text


def small_story(rng):
    return tell(rng, rng.choice(("one sentence", "short", "short", "long"))).text


def greet(rng, memory):
    return rng.choice(GREETINGS) + rng.choice(("", "", "!", ".", ", tiny")), write(rng, rng.choice(GREETING_REPLIES))


def small_talk(rng, memory):
    asks, answers = rng.choice(SMALL_TALK)
    kinds = rng.sample([animal.kind for animal in ANIMALS if animal.kind[0] not in "aeiou"], 2)
    slots = {"self": memory.get("self", "tiny"), "kind": kinds[0], "kind2": kinds[1], "food": rng.choice(FOODS), "story": small_story(rng)}
    return rng.choice(asks), write(rng, rng.choice(answers), **slots)


def ask_story(rng, memory):
    """A story of the asked-for length about the asked-for thing."""
    length, word = rng.choice([("any", ""), ("any", ""), ("any", ""), ("short", "short "), ("short", "very short "), ("long", "long "), ("one sentence", "one-sentence ")])
    kind = item = name = None
    topic = ""
    wanted = rng.choice(("nothing", "kind", "kind", "kind", "item", "name", "topic"))
    if memory.get("brief"):
        length = "one sentence"
    if length == "one sentence":
        wanted = "nothing"
    if wanted == "nothing":
        about = ""
    elif wanted == "kind":
        kind, _, _ = pick_being(rng)
        about = write(rng, " about [{one}|{one}|{many}|the {kind}|a little {kind}]", one=a(kind), many=many(kind), kind=kind)
    elif wanted == "item":
        item, _ = rng.choice(ITEMS)
        about = f" about {a(item)}"
    elif wanted == "name":
        name = rng.choice(NAMES)
        kind, _, _ = pick_being(rng)
        about = rng.choice((f" about {a(kind)} named {name}", f" about {name} the {kind}"))
    else:
        topic = any_topic(rng)
        about = f" about {topic}"
    story = tell(rng, length, kind, name, item, topic)
    memory["story"] = story
    intro = rng.choice(("", "", "", "", "Here is a story. ", "Gladly! "))
    return write(rng, rng.choice(STORY_ASKS), len=word, about=about), intro + story.text


def ask_about_story(rng, memory):
    story = memory.get("story")
    if not story:
        return ask_story(rng, memory)
    return rng.choice([
        (rng.choice(("What was the name of the {kind}?", "Who was the story about?", "What was {his} name?")).format(kind=story.kind, his=story.his),
         f"The story was about {story.hero} the {story.kind}."),
        (f"Where did {story.hero} live?", f"{story.hero} lived {story.home}."),
        (rng.choice(("Why?", "And then?", "What happened next?", "Is that the end?", "Go on.", "Continue.")),
         write(rng, "[Then {name} went home|The next day, {name} woke up early|After that, {name} took a long rest], and [all was well|{he} was happy|{he} told everyone about it].",
               name=story.hero, he=story.pronoun)),
        (rng.choice(("I like {name}.", "{name} is nice.", "{name} is funny.")).format(name=story.hero),
         f"I like {story.hero} too. {upper_first(story.pronoun)} is a good {story.kind}."),
    ])


def ask_fact(rng, memory):
    ask, answer = make_fact(rng)
    return ask, answer


def introduce(rng, memory):
    """The user says who they are; later questions ask it back."""
    if rng.random() < 0.5 or "name" not in memory:
        if "name" in memory or rng.random() < 0.3:
            likes = rng.choice(FOODS + [many(animal.kind) for animal in ANIMALS])
            memory["likes"] = likes
            return f"I like {likes}.", write(rng, "[I like {likes} too|It is good to like {likes}|That is nice].[| I will remember that.]", likes=likes)
        memory["name"] = rng.choice(NAMES) if rng.random() < 0.6 else pseudo_word(rng).capitalize()
        return (rng.choice(("My name is {0}.", "I am {0}.", "Hello, I am {0}.", "Hi, my name is {0}.", "Call me {0}.")).format(memory["name"]),
                write(rng, "[Hello, {name}!|Nice to meet you, {name}!|Hi, {name}.] [What would you like to hear|How can I help you|How are you]?", name=memory["name"]))
    return recall(rng, memory)


def recall(rng, memory):
    if "likes" in memory and rng.random() < 0.5:
        return "What do I like?", f"You like {memory['likes']}."
    if "name" in memory:
        return rng.choice(("What is my name?", "Who am I?", "Do you know my name?", "What's my name?")), f"Your name is {memory['name']}."
    return introduce(rng, memory)


def echo(rng, memory):
    """Say what one is told to say, which teaches the model to copy."""
    count = rng.choice((1, 2, 3, 4, 5, 6, 8))
    if rng.random() < 0.35:
        text = rng.choice((small_talk(rng, {})[0], make_fact(rng)[1].replace("\n", " "), tell(rng, "one sentence").text)).rstrip(".!?")
    else:
        text = " ".join(any_words(rng, count)).strip(string.punctuation + " ") or "this"
    quote = rng.choice(("", "", "", '"', "'"))
    ask = rng.choice(("Say ", "say ", "Repeat after me: ", "Say: ", "Please say ", "Can you say ", "Repeat: ", "Write ", "Just say ", "Echo ", "Repeat "))
    return ask + quote + text + quote + rng.choice(("", ".", "!")), upper_first(text) + "."


def poem(rng, memory):
    thing = rng.choice(POEM_THINGS) if rng.random() < 0.6 else rng.choice(("", "the ")) + any_topic(rng)
    form = rng.choice(("haiku", "haiku", "poem", "poem", "short poem", "rhyme", "song"))
    ask = write(rng, "[Write|Write me|Make|Give me|Can you write|Please write] a {form} about {thing}.", form=form, thing=thing)
    slots = {"the": thing, "The": upper_first(thing)}
    if form == "haiku":
        lines = [write(rng, rng.choice(part), **slots) for part in (POEM_FIRST, POEM_SECOND, POEM_THIRD)]
        return ask, upper_first(",\n".join(lines)) + "."
    pairs = rng.sample(POEM_RHYMES, rng.choice((1, 2, 2, 3)))
    lines = [upper_first(write(rng, line, **slots)) for pair in pairs for line in pair]
    return ask, "\n".join(lines)


def ask_topic(rng, memory):
    topic = any_topic(rng)
    ask = rng.choice(TOPIC_ASKS).format(topic=topic)
    more = write(rng, rng.choice(UNSURE_MORE), story=small_story(rng))
    return ask, write(rng, rng.choice(UNSURE_TOPIC), topic=topic, Topic=upper_first(topic), more=more)


def ask_anything(rng, memory):
    """Any text at all: words, code, a long page, one sign. The reply stays calm."""
    kind = rng.random()
    count = rng.choice((1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 40))
    words = any_words(rng, count)
    if kind < 0.15:
        ask = "\n".join(" ".join(any_words(rng, rng.randrange(1, 8))) for _ in range(rng.randrange(2, 6)))
    elif kind < 0.25:
        ask = "".join(rng.choice(string.printable[:95]) for _ in range(rng.randrange(1, 40)))
    elif kind < 0.3:
        ask = "".join(chr(rng.choice((rng.randrange(0xA1, 0x17F), rng.randrange(0x410, 0x450), rng.randrange(0x4E00, 0x5000), rng.randrange(0x1F600, 0x1F640))))
                      for _ in range(rng.randrange(1, 12)))
    elif kind < 0.65:
        words = rng.choice((2, 2, 4, 12))
        ask = rng.choice(REQUESTS).format(x=" ".join(any_words(rng, rng.randrange(1, words))), y=any_topic(rng))
    else:
        lead = rng.choice(("", "", "", "Write ", "How ", "What ", "Why ", "Please ", "Can you ", "I ", "Is ", "Do "))
        ask = upper_first(lead + " ".join(words)) + rng.choice(("", ".", "?", "?", "!"))
    kind_of_animal = rng.choice([animal.kind for animal in ANIMALS if animal.kind[0] not in "aeiou"])
    about = rng.choice((" about that", " about it", " about this"))
    return ask, write(rng, rng.choice(UNSURE), about=about, story=small_story(rng), kind=kind_of_animal)


def ask_too_much(rng, memory):
    """Questions whose answers are near what the model knows, yet out of reach."""
    kind = rng.random()
    if kind < 0.6:
        left, right = rng.randrange(11, 10 ** rng.randrange(2, 5)), rng.randrange(2, 1000)
        ask = write(rng, "[What is |What's |How much is |Calculate |]{left}[+| + |*| * | - | / | times | plus | divided by ]{right}[|?|.]", left=left, right=right)
        return ask, write(rng, "[These numbers are|That is] too big for me. I can only add and take away numbers up to ten.")
    place = any_topic(rng)
    return f"What is the capital of {place}?", write(rng, "I do not know the capital of {place}. [I know only a few countries|Ask me about France or Japan].", place=place)


def describe(rng, memory):
    """A person, a place or a day in a few sentences."""
    place, at_place = rng.choice(PLACES)
    kind, _, home = pick_being(rng)
    return rng.choice([
        (write(rng, "[Describe|Tell me about|What is it like at] {place}.", place=place), describe_place(rng, place, at_place)),
        (write(rng, "[Describe|Write about|Tell me about] {one}.", one=a(kind)),
         write(rng, "{One} [may live|often lives] {home}. [It is good to have one as a friend|In many stories, it is kind and brave|I know many stories about it].", One=upper_first(a(kind)), home=home)),
    ])


def describe_place(rng, place, at_place):
    text = write(
        rng,
        "[It is quiet|It is a fine day|It is early] {at_place}. [The wind is soft|The sun is warm|A little rain falls], and {one} [sleeps|sings|walks by]. "
        "[Nobody is in a hurry.|You can hear the birds.|There is a smell of {food}.|] [It is a good place to rest|I would like to stay there for ever|Come and see it one day].",
        at_place=at_place, one=a(rng.choice(ANIMALS).kind), food=rng.choice(FOODS))
    # An empty choice leaves two spaces behind.
    return text.replace("  ", " ")


TURNS = [
    (greet, 8), (small_talk, 16), (ask_story, 18), (ask_fact, 16), (introduce, 4), (recall, 2), (echo, 7),
    (poem, 8), (ask_topic, 12), (ask_anything, 12), (ask_too_much, 3), (describe, 3), (ask_about_story, 3),
]
MAKERS, WEIGHTS = zip(*TURNS)


def make_chat(rng):
    """A conversation of one to six turns, now and then under a system prompt."""
    memory, messages = {}, []
    kind = rng.random()
    if kind < 0.28:
        rules = rng.sample(SYSTEM_RULES, rng.choice((0, 0, 1, 3, 5)))
        messages.append(("system", rng.choice((" ", " ", "\n")).join((rng.choice(SYSTEM_PROMPTS), *rules))))
    elif kind < 0.32:
        memory["self"] = rng.choice(NAMES) if rng.random() < 0.5 else pseudo_word(rng).capitalize()
        messages.append(("system", rng.choice(("Your name is {0}.", "You are {0}, a helpful assistant.", "You are {0}.")).format(memory["self"])))
    elif kind < 0.38:
        messages.append(("system", upper_first(" ".join(any_words(rng, rng.randrange(3, 40)))) + "."))
    elif kind < 0.40:
        messages.append(("system", rng.choice(BRIEF_PROMPTS)))
        memory["brief"] = True

    for turn in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 6))):
        maker = rng.choices(MAKERS, WEIGHTS)[0]
        if turn and "story" in memory and rng.random() < 0.3:
            maker = ask_about_story
        elif turn and "name" in memory and rng.random() < 0.4:
            maker = recall
        ask, answer = maker(rng, memory)
        if memory.get("brief") and not answer[0].isdigit():
            # The first sentence alone answers a user who asked to be brief.
            answer = answer.split(". ")[0].split("\n")[0].rstrip(".,") + ("" if answer.split(". ")[0][-1] in '!?"' else ".")
        if maker not in (echo, ask_anything):
            ask = casual(rng, ask)
        if maker in (greet, small_talk, ask_fact) and rng.random() < 0.05:
            ask = ask.upper()
        messages += [("user", ask), ("assistant", answer)]
    return messages
