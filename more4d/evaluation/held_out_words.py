"""Words for what the bundled weights know, that no thesaurus and no training was made with.

The list was written down before the thesaurus (`language/`), as what people may type, and nothing was tuned
on it: entries are neither added to the thesaurus nor taken out of it because they are here. What both name
is understood because others thought of the same word; the rest is a word that is in no list.
"""

import re

TABLE = """
ball: football, basketball
barrel: keg
bear: grizzly
bird: sparrow, pigeon
box: carton
boy: lad
bus: coach
camel: dromedary
car: sedan, taxi
cart: wagon
cat: kitten, tabby
chair: stool
chicken: hen
cow: bull
cube: block
deer: stag
dog: puppy, poodle
donkey: mule
duck: mallard
flag: banner
flower: rose
fox: vixen
girl: schoolgirl
goat: billy goat
horse: pony, mare
lamp: lantern
leopard: cheetah
man: guy, policeman
mushroom: toadstool
ostrich: emu
pig: hog
robot: android
rocket: missile
sheep: lamb
sphere: orb
toy figure: doll
train: locomotive
tree: oak
truck: lorry
vase: jug
wolf: coyote
woman: lady

@move: shifts, travels
@walk: wanders, marches
@drive: cruises
@reverse: moves in reverse
@roll: tumbles
@bounce: springs up and down
@jump: leaps
@spin: twirls, whirls
@sway: wobbles
@wave: ripples
@run: dashes, sprints
@fly: swoops
@flap: beats its wings
@greet: says hello
@circle: goes round in circles
@rock: rocks back and forth
@float: hovers
@nod: bobs its head
@still: remains motionless

>left: leftwards, to the left-hand side
>right: rightwards, to the right side
>up: skyward, higher
>down: lower, to the ground
>toward: nearer, our way
>away: off into the background, out of sight

#red: scarlet
#blue: navy
#green: emerald
#yellow: golden
#purple: violet
#orange: tangerine
#pink: magenta
#brown: chestnut
#white: ivory
#black: jet-black
#grey: gray
#turquoise: teal
#beige: tan
"""
"""Nouns, verbs (@), directions (>) and colours (#) by their names in `scenes`, and other words for them."""
HELD_OUT_WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(re.split(", ", words))
    for name, words in (line.split(": ") for line in TABLE.split("\n") if line)
}
