"""Words for what the tool world does not have: everyday words in combinations that do not come back, made-up words.

The embedded model's general text (data/world_text.py) is full of them, so that names, fields and values must be read
and copied: a combination never comes back, so there is nothing to recall, and everyday words among the made-up ones
leave no sign of which it is. No word of the test pools or of the held-out domains is among them.
"""

import random
import re
from functools import cache

from data import world
from data import world_lexicon as lexicon

EVERYDAY = """
acid acorn actor agenda alley amount anchor angle ankle apple apron arch arrow attic autumn badge bakery balcony ball
bamboo banana banner barn barrel basin basket bath beach bead beam bean bear beard beast bell belt bench berry bicycle
bill blade blanket block blossom board boat body bolt bone bonus boot border bottle bottom bowl boxer brain branch brand
brass bread brick bride broom brush bubble bucket budget bundle bus bush butter button cabin cabinet cable cactus cage
camel camera camp canal candle candy cannon canoe canvas captain caravan carbon cargo carpet carrot cart cave ceiling
cell cellar center chain chair chalk channel chapter charge cheese cherry chest chicken chimney chin chip circle circus
clay clerk cliff clock cloth cloud clover coach coal coast coat coin collar colony comb comic cone contract cook cookie
cord cork corn corner cotton couch cough council counter county coupon cousin cover crack craft crane cream creature
crew crop cross crowd crown crystal cube cup curtain curve cushion custom cycle dairy dance dawn deal debate debt deck
deer degree denim dentist deposit desert desk detail device dial diamond diary diet dinner dish ditch doll dollar
dolphin donkey door double dozen dragon drain drama drawer dream dress drill drink drum duck dust eagle ear earth east
echo edge editor eel egg elbow elephant engine entry envelope error essay event evidence exhaust extra eye fabric face
factor fair farmer fashion father feather fence ferry fever fiber fiction field figure file film filter finger fire fish
flag flame flask fleet flesh flood floor flour flower fluid flute fog folk foot force forge fork fortune fossil fountain
fox frame freezer friend frog front fruit fuel funnel fur fuse galaxy gallery game garage garlic gate gear gem ghost
giant ginger girl glacier glass glove glue goat gold goose grain grape grass gravel gravity grease grid grill grip
ground group guard guess guide guitar gum gun habit hair hammer hand handle hat hatch hawk hazard head heart heat hedge
heel helmet herb hero hip hobby hockey hole honey hood hook horn horse hose host hotel hunter hut ice idea image income
ink insect iron item jacket jar jazz jeans jelly jewel job joke joint judge juice jump jury kayak kettle key kid king
kit kite kitten knee knife knot label lace ladder lady lake lamp land lane laser lawn lawyer layer lead leaf leather
ledge leg lemon lens lesson level lever lid limb lime limit line lion lip list litter liver lizard load loan lobby lock
log loop lotion lunch lung machine magnet maid mammal mantle margin mask mat match meal meat medal medium melon member
memory menu merchant metal meter milk mill mine mineral mint minute model moment monkey monster mood moss mother motor
mouse mouth mud mule muscle museum mushroom music mustard nail napkin neck needle nerve net nickel night noise noodle
north nose novel number nurse nut oasis oat object ocean offer oil olive onion opera orange orbit organ ounce outfit
outlet oven owl oyster pack page paint pair palm pan panel pants paper parade parent park parrot part party paste patch
path patrol pattern pea peach peanut pear pearl pedal pen pencil penny people phrase piano picnic picture piece pig
pigeon pile pillow pilot pin pine pipe pirate pitch pizza plan planet plank plant plate plot plug plum pocket poem poet
point poison pole police pond pony pool porch port portion post pot potato powder prayer present price pride prince
prison prize profit proof puddle pulse pump pumpkin puppet puppy purse puzzle pyramid quarry quarter queen quilt quote
rabbit raccoon race rack radar radio raft rail rain raisin ranch range razor recipe record reef region relay relish
remedy rhyme rhythm ribbon rice riddle ride rifle rim ring ripple rival robe robin robot rocket rod roof root rope route
ruby rug ruler rumor saddle sail sailor salad salt sample sand sandal satin sauce saucer sausage saw scale scarf scene
scent school scissors score scout screen screw script scroll seal season seat secret seed shade shaft shampoo shark shed
sheep sheet shelf shell shield shirt shoe shop shore shoulder shovel shower shrimp sign signal silk sink siren sister
skate skeleton sketch ski skin skirt skull sky slice slide slope smile smoke snack snail snake snow soap soccer sock
soda sofa soil soldier sole son song sort sound soup source south space spade spark speaker spear spice spider spike
spine spirit sponge spoon sport spot spray square squash squirrel stable stack staff stage stair stall stamp star state
statue steak steam steel stem step stew stick stitch stock stomach stone stool storm story stove strap straw stream
string stripe studio submarine suburb subway sugar suit sun surf surface sweater swing sword symbol syrup table tackle
tail tailor talent tank tape target taxi tea teacher team tear temple tent term theme thief thigh thread throat throne
thumb tide tie tiger tile timber tin tip tire tissue title toast toe tomato tongue tool tooth torch tour towel tower
town toy track trail train tray treasure tree triangle tribe trick trip trophy trout truck trumpet trunk tub tube tulip
tune tunnel turkey turtle twig twin umbrella uncle union unit vacuum valve van vapor vase vault vehicle veil vein vessel
vest victim village vine violin virus voice volcano volume vote voyage wagon waist wall walnut war water wave wax
weather web wedding weed week well west whale wheat wheel whip whistle wick widow wife window wine wing winner wire wish
witness wolf woman wood wool word worker world worm wound wreck wrist yard yarn year yeast yolk zebra zero zipper zone
""".split()

ONSETS = ("b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kn l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw "
          "t th tr v w wh y z").split()
VOWELS = "a a e e i i o o u ai ea ee oo ou y ie".split()
CODAS = ["", "", "", *"n r s l t d k m p ck lk nd nt rk rt st th ld lm rm mp ft x ss ll ng rg by gh ve".split()]
SHARE_EVERYDAY = 0.5


@cache
def reserved() -> frozenset[str]:
    """Words that only tests may use: the testing pools, and all that the held-out domains say of themselves."""
    pools = (lexicon.FIRST_NAMES, lexicon.TITLE_FIRST, lexicon.TITLE_LAST, lexicon.TAG_WORDS, lexicon.STREETS)
    words = {word.lower() for pool in pools for word in pool[1]}
    words |= {(a + b).lower() for starts, ends in ((lexicon.LAST_STARTS, lexicon.LAST_ENDS),
                                                   (lexicon.CITY_STARTS, lexicon.CITY_ENDS))
              for a in starts[1] for b in ends[1]}
    for domain in world.domains("heldout"):
        spec = lexicon.DOMAINS[domain]
        words |= set(re.findall(r"[a-z]+",
                                " ".join((spec["objects"], spec["ids"], spec["choices"], spec["switches"])).lower()))
    return frozenset(words)


@cache
def everyday() -> tuple[str, ...]:
    return tuple(word for word in dict.fromkeys(EVERYDAY) if word not in reserved())


def made_up_word(rng: random.Random) -> str:
    """One or two syllables over all letters and their clusters."""
    while True:
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
                       for _ in range(rng.choice((1, 1, 2, 2))))
        if word not in reserved():
            return word


def word(rng: random.Random) -> str:
    """An everyday word or a made-up one, in small letters."""
    return rng.choice(everyday()) if rng.random() < SHARE_EVERYDAY else made_up_word(rng)


@cache
def _objects() -> frozenset[str]:
    return frozenset(phrase for domain in lexicon.DOMAINS for phrases in world.domain_objects(domain)
                     for phrase in phrases)


def thing(rng: random.Random) -> str:
    """The name of a thing that the world does not have: one to three words."""
    while True:
        phrase = " ".join(word(rng) for _ in range(rng.choice((1, 2, 2, 2, 3))))
        if phrase not in _objects():
            return phrase


# kind -> (argument names, descriptions, clauses); {w} is a word of its own for each field, {v} the value
_PATTERNS = {
    "code": (("{w}_id", "{w}_code", "{w}_number", "{w}_key", "{w}"),
             ("Number of the {w}.", "Code of the {w}.", "Mark of the {w}."),
             ("on {w} {{v}}", "for {w} {{v}}", "with {w} number {{v}}", "under {w} {{v}}", "in {w} {{v}}",
              "at {w} {{v}}", "as {w} {{v}}",
              "using {w} {{v}}", "from {w} {{v}}", "{w} {{v}}")),
    "choice": (("{w}", "{w}_kind", "kind_of_{w}"),
               ("Kind of {w}.", "State of the {w}.", "Which {w} is used.", "Level of the {w}."),
               ("in {{v}} {w}", "with {{v}} {w}", "with a {{v}} {w}", "at {{v}} {w}", "on the {{v}} {w}",
                "as {{v}} {w}", "in the {{v}} {w}")),
    "integer": (("{w}s", "{w}_count", "number_of_{w}s"),
                ("Number of {w}s.", "How many {w}s are wanted.", "Length in {w}s."),
                ("with {{v}} {w}s", "for {{v}} {w}s", "{{v}} {w}s long", "using {{v}} {w}s")),
    "decimal": (("{w}", "{w}_level", "{w}_share"), ("Level of the {w}.", "Share of the {w} in percent."),
                ("with {{v}} {w}", "at {{v}} {w}", "of {{v}} {w}", "with a {w} of {{v}}")),
    "money": (("{w}_price", "{w}_fee", "{w}_cost"),
              ("Price of the {w} in dollars.", "Most that the {w} may cost, in dollars."),
              ("with a {w} fee of ${{v}}", "for ${{v}} a {w}", "with ${{v}} for the {w}")),
    "title": (("{w}_name", "{w}", "{w}_text"), ("Name of the {w}.", "Text of the {w}.", "What the {w} is called."),
              ('with the {w} "{{v}}"', 'for the {w} "{{v}}"', 'with "{{v}}" as the {w}')),
    "person": (("{w}_name", "{w}", "{w}_owner"), ("Name of the {w}.", "Who the {w} is.", "Person that owns the {w}."),
               ("with {{v}} as the {w}", "for the {w} {{v}}", "by the {w} {{v}}")),
    "date": (("{w}_date", "{w}_day"), ("Day of the {w}, as YYYY-MM-DD.", "Date of the {w}, as YYYY-MM-DD."),
             ("with the {w} on {{v}}", "after the {w} of {{v}}", "{w} {{v}}")),
    "city": (("{w}_city", "{w}_place"), ("City of the {w}.", "Town where the {w} is."),
             ("with a {w} in {{v}}", "near the {w} of {{v}}")),
}
_SWITCHES = (("Whether there is a {w}.", "with a {w}", "without a {w}"),
             ("Whether {w} is allowed.", "{w} allowed", "no {w}"),
             ("Whether it is {w}.", "{w} please", "not {w}"),
             ("Whether the {w} is used.", "using the {w}", "leaving out the {w}"),
             ("Whether it counts as {w}.", "counted as {w}", "not counted as {w}"),
             ("Whether it has {w}.", "with {w}", "without {w}"))


def made_up_field(rng: random.Random) -> world.Field:
    """An argument that no tool of the world has: name, description and clauses are about a word of its own."""
    about, required = word(rng), rng.random() < 0.75
    kind = rng.choice((*_PATTERNS, "code", "choice", "choice", "switch", "switch", "switch"))
    if kind == "switch":
        description, yes, no = (text.format(w=about) for text in rng.choice(_SWITCHES))
        return world.Field(kind, about, description, (yes, no), required=required)
    names, descriptions, clauses = _PATTERNS[kind]
    choices = tuple(dict.fromkeys(word(rng) for _ in range(rng.choice((2, 3, 3, 4))))) if kind == "choice" else ()
    prefix = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(2)) if kind == "code" else ""
    return world.Field(kind, rng.choice(names).format(w=about), rng.choice(descriptions).format(w=about),
                       (rng.choice(clauses).format(w=about),), choices, prefix, required)
