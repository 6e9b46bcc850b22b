"""The small world the model lives in: who there is, what there is, and where.

Every table is written by hand. A story picks its parts from here, and the
facts in `facts.py` are read from the same rows, so that a fox of a story and a
fox of an answer live in the same forest.
"""

import re
from collections import namedtuple

Animal = namedtuple("Animal", "kind group colour home food can sound young")

GIRL_NAMES = """Mia Lily Anna Rose Ella Nora Ruby Clara Ivy Molly Daisy Luna Zoe
Hazel Alice Emma Lucy Sara Tess Wren Maya Olive Juno Poppy Freya""".split()

BOY_NAMES = """Tom Ben Max Sam Leo Finn Jack Oliver Pip Hugo Theo Oscar Felix
Noah Otto Milo Toby Henry Will Robin Arthur Jasper Kai Bruno Emil""".split()

ANIMALS = [
    Animal(*(field.strip() for field in row.split("|")))
    for row in """
fox | mammal | red | in the forest | berries | run fast | barks | cub
bear | mammal | brown | in the forest | honey | climb trees | growls | cub
wolf | mammal | grey | in the forest | meat | run all night | howls | cub
deer | mammal | brown | in the forest | leaves | jump high | grunts | fawn
cat | mammal | grey | in a warm house | fish | climb trees | meows | kitten
dog | mammal | brown | in a warm house | meat | run fast | barks | puppy
rabbit | mammal | white | in a small burrow | carrots | hop high | squeaks | bunny
mouse | mammal | grey | in a tiny hole | seeds | hide quickly | squeaks | pup
owl | bird | brown | in a tall tree | mice | see in the dark | hoots | owlet
crow | bird | black | in a tall tree | seeds | fly far | caws | chick
duck | bird | white | by the pond | grass | swim well | quacks | duckling
swan | bird | white | on the lake | grass | swim well | hisses | chick
frog | amphibian | green | by the pond | flies | jump far | croaks | tadpole
hedgehog | mammal | brown | under the leaves | insects | roll into a ball | snuffles | pup
squirrel | mammal | red | in an old oak tree | nuts | climb trees | chatters | pup
badger | mammal | black and white | under the hill | roots | dig deep | grunts | cub
otter | mammal | brown | by the river | fish | swim well | whistles | pup
beaver | mammal | brown | by the river | bark | build dams | whistles | pup
hen | bird | brown | on a farm | corn | lay eggs | clucks | chick
goat | mammal | white | on the mountain | grass | climb rocks | bleats | kid
horse | mammal | brown | on a farm | hay | run fast | neighs | foal
pig | mammal | pink | on a farm | apples | roll in the mud | grunts | piglet
sheep | mammal | white | on a farm | grass | grow wool | bleats | lamb
cow | mammal | black and white | on a farm | grass | give milk | moos | calf
lion | mammal | yellow | on the wide plain | meat | run fast | roars | cub
tiger | mammal | orange and black | in the jungle | meat | swim well | growls | cub
elephant | mammal | grey | on the wide plain | leaves | carry heavy logs | trumpets | calf
giraffe | mammal | yellow and brown | on the wide plain | leaves | reach high branches | hums | calf
zebra | mammal | black and white | on the wide plain | grass | run fast | barks | foal
monkey | mammal | brown | in the jungle | bananas | swing from trees | chatters | baby
parrot | bird | green | in the jungle | fruit | learn words | squawks | chick
snake | reptile | green | in the jungle | mice | move without legs | hisses | baby
turtle | reptile | green | by the sea | leaves | live very long | hisses | baby
crab | shellfish | red | on the beach | plants | walk sideways | clicks | baby
penguin | bird | black and white | on the ice | fish | swim well | honks | chick
whale | mammal | blue | in the sea | small fish | dive deep | sings | calf
dolphin | mammal | grey | in the sea | fish | jump over waves | whistles | calf
panda | mammal | black and white | in the mountains | bamboo | climb trees | bleats | cub
camel | mammal | brown | in the desert | dry grass | walk far without water | grunts | calf
bee | insect | yellow and black | in a hive | nectar | make honey | buzzes | grub
ant | insect | black | under the ground | seeds | carry big leaves | clicks | grub
butterfly | insect | orange | in the garden | nectar | fly softly | flutters | caterpillar
""".strip().splitlines()
]

# People and made-up beings who can lead a story: kind, pronoun, home.
PEOPLE = [
    tuple(field.strip() for field in row.split("|"))
    for row in """
girl | she | in a small village
boy | he | in a small village
girl | she | in a big city
boy | he | in a big city
king | he | in an old castle
queen | she | in an old castle
princess | she | in an old castle
prince | he | in an old castle
farmer | any | on a farm
baker | any | in a small village
sailor | any | by the sea
teacher | any | in a small town
gardener | any | near a green park
painter | any | in a small town
knight | any | in an old castle
wizard | he | in a high tower
witch | she | in a dark wood
giant | any | behind the mountains
dragon | any | in a deep cave
robot | any | in a big city
fairy | she | under a flower
ghost | any | in an empty house
snowman | he | in a white garden
pirate | any | on a wooden ship
doctor | any | in a big city
old man | he | near the river
old woman | she | near the river
""".strip().splitlines()
]

NATURES = """little small young clever kind brave shy quiet happy curious gentle
lazy hungry proud lonely cheerful careful busy funny patient""".split()

# Things that can be found, lost, given and used: the noun and its use.
ITEMS = [
    tuple(field.strip() for field in row.split("|"))
    for row in """
kite | fly it high in the sky
ball | throw it up and catch it
book | read it aloud
lamp | light up the whole room with it
key | open the old door with it
hat | wear it every day
scarf | keep warm with it
boat | sail it on the water
drum | play a loud song on it
bell | ring it in the morning
flute | play a soft song on it
map | find the right way with it
box | keep small treasures in it
basket | carry fruit in it
blanket | sleep under it
cup | drink warm milk from it
spoon | stir the soup with it
rope | climb the big rock with it
umbrella | stay dry under it
ring | wear it with pride
stone | keep it in a safe place
feather | write letters with it
clock | know the time by it
mirror | look at the stars in it
wheel | mend the cart with it
button | sew it on the coat
shell | hear the sea in it
coin | buy fresh bread with it
lantern | walk through the night with it
pencil | draw funny pictures with it
""".strip().splitlines()
]

ITEM_LOOKS = """red blue green yellow golden silver old new tiny big shiny wooden
soft bright round pretty strange white""".split()

# Places: a noun with its article, and how one is in it.
PLACES = [
    tuple(field.strip() for field in row.split("|"))
    for row in """
the forest | in the forest
the river | by the river
the hill | on the hill
the village | in the village
the garden | in the garden
the market | at the market
the beach | on the beach
the lake | by the lake
the bridge | under the bridge
the old mill | at the old mill
the meadow | in the meadow
the mountain | on the mountain
the school | at the school
the park | in the park
the cave | in the cave
the barn | in the barn
the well | by the well
the tower | in the tower
the harbour | at the harbour
the library | in the library
the big oak tree | under the big oak tree
the bakery | at the bakery
the station | at the station
the field | in the field
""".strip().splitlines()
]

FOODS = """bread soup cake pie cheese honey apples pears plums berries nuts
carrots pancakes cookies porridge jam rice beans""".split()

SKILLS = [
    tuple(field.strip() for field in row.split("|"))
    for row in """
swim | swam across the pond
read | read a whole page
sing | sang a sweet song
dance | danced without one wrong step
paint | painted a bright picture
bake | baked a fine cake
whistle | whistled a merry tune
juggle | juggled three apples
count | counted to one hundred
skate | skated over the ice
climb | climbed to the top of the wall
write | wrote a long letter
play the flute | played the flute for everyone
tell stories | told a story that made everyone laugh
fish | caught a big silver fish
sew | sewed a warm coat
""".strip().splitlines()
]

FEARS = """the dark|thunder|deep water|high places|loud noises|the cold wind
big dogs|the old house|storms|being alone""".replace("\n", "|").split("|")

COLOURS_OF = {
    "the sky": "blue", "the sun": "yellow", "the grass": "green", "the snow": "white",
    "the night": "black", "the sea": "blue", "the moon": "silver", "a banana": "yellow",
    "an apple": "red", "a carrot": "orange", "a lemon": "yellow", "a leaf": "green",
    "a tomato": "red", "milk": "white", "coal": "black", "a cloud": "white",
    "a rose": "red", "chocolate": "brown", "an orange": "orange", "blood": "red",
    "a strawberry": "red", "a pea": "green", "salt": "white", "gold": "yellow",
}

OPPOSITES = [pair.split() for pair in """hot cold|big small|up down|day night|happy sad
fast slow|light dark|open closed|new old|wet dry|hard soft|loud quiet|good bad|left right
full empty|early late|high low|rich poor|strong weak|near far|black white|yes no
long short|heavy light|clean dirty|young old|deep shallow|thick thin""".replace("\n", "|").split("|")]

CAPITALS = dict(pair.split(":") for pair in """France:Paris|Spain:Madrid|Italy:Rome
Germany:Berlin|England:London|Japan:Tokyo|China:Beijing|Egypt:Cairo|Greece:Athens
Norway:Oslo|Sweden:Stockholm|Russia:Moscow|Canada:Ottawa|Portugal:Lisbon|Ireland:Dublin
Poland:Warsaw|Austria:Vienna|India:New Delhi|Kenya:Nairobi|Peru:Lima|Cuba:Havana
Finland:Helsinki|Denmark:Copenhagen|Hungary:Budapest""".replace("\n", "|").split("|"))

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October
November December""".split()
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve
thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()

# Things the model is asked about and knows nothing of. It learns to repeat the
# topic and to say so, and from many of them, to do the same with any other.
TOPICS = re.split(r"[|\n]+", """recursion|quantum physics|the stock market|machine learning|databases
kubernetes|the French Revolution|black holes|photosynthesis|economics|philosophy
chess|football|blockchain|neural networks|climate change|democracy|algebra|geometry
chemistry|biology|history|politics|marketing|programming|Python|JavaScript|TypeScript
compilers|operating systems|computer networks|load balancing|caching|queues|encryption
the Roman Empire|the Second World War|dinosaurs|volcanoes|earthquakes|electricity
magnetism|gravity|relativity|evolution|genetics|vaccines|medicine|nutrition|yoga
meditation|jazz|opera|Shakespeare|poetry|novels|movies|theatre|sculpture|architecture
bridges|engines|cars|trains|airplanes|rockets|satellites|Mars|Jupiter|the solar system
galaxies|time travel|artificial intelligence|robots|ethics|law|taxes|insurance|banking
inflation|trade|startups|management|leadership|teamwork|productivity|design|fashion
cooking|sushi|pizza|coffee|tea|wine|travel|tourism|Paris|London|New York|Tokyo
Africa|Asia|Europe|America|Australia|Antarctica|oceans|rivers|deserts|jungles
mathematics|statistics|probability|calculus|logic|set theory|graph theory|sorting
binary search|hash tables|linked lists|trees|distributed systems|microservices
REST APIs|HTTP|TCP|DNS|Linux|Windows|Docker|Git|SQL|Redis|Kafka|regular expressions
functional programming|garbage collection|concurrency|threads|memory|processors|GPUs
transformers|attention|gradient descent|tokenizers|language models|prompt engineering
speech recognition|image processing|video games|sports|tennis|basketball|swimming
marathons|cycling|hiking|camping|gardening|photography|music theory|pianos|guitars
violins|languages|grammar|Latin|Spanish|French|German|Chinese|translation|spelling
psychology|memory palaces|dreams|sleep|emotions|happiness|friendship|love|money|power
war|peace|freedom|justice|truth|beauty|art|science|religion|mythology|Zeus|Napoleon
Einstein|Newton|Darwin|Aristotle|Cleopatra|the pyramids|the Great Wall|the Olympics
the internet|social media|privacy|security|passwords|hackers|viruses|bacteria|cells
atoms|molecules|energy|light|sound|heat|entropy|lasers|semiconductors|batteries
solar panels|wind turbines|nuclear power|oil|plastics|recycling|pollution|rainforests
coral reefs|sharks|bicycles|submarines|magic tricks|puzzles|riddles|crosswords|origami""")

# Small words that hold a random prompt together.
GLUE = """the a an of to in and for with on is are was how why what when where which
who can could should would does do did my your our their this that these those it he
she they we you I if then else not no yes all some many more most very please about
from by at as or but so because while between before after over under into out best
way make use write give find create build explain list show me us them one two first
last new old good better problem question answer example text code data user system
file name value number word line test error server model request response time""".split()

# Syllables of words that nobody has ever heard.
SYLLABLES = """ba be bi bo bu ca co cu da de di do fa fe fi ga go gra ha hi ho ja jo ka
ke ki la le li lo lu ma me mi mo mu na ne ni no pa pe pi po pra qua ra re ri ro sa se
si so sta stri ta te ti to tra tri tu va ve vi wa wi xe ya yo za ze zi zo tion ment ing
er ly ness al ic ous ist ism ary logy graph meter ber ton son ler ter den mic vor plex""".split()
