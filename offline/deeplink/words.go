package deeplink

import "strings"

const (
	wordBits  = 11 // what one word of a fingerprint or a recovery sheet is worth
	wordStart = 4  // so many letters tell one of words from all others
)

// words are 2,048 English words of three to seven letters, in order, no two
// with the same first four letters: short to type, clear to dictate. The list
// is frozen: fingerprints are compared aloud between versions.
var words = strings.Fields(`
abbey able about above accept acid acorn acre across actor adapt adopt adult advice aerial affair afford afraid after
again agent agile agree ahead airbag airport alarm album alert algae alien align alike alive alley allow almond alone
alpine already also amber amount ample amuse anchor angle animal ankle annual answer antler anvil apart apex apple
apron arch arctic area arena argue arise armor army aroma around arrive arrow artist ascend aside aspen asphalt assist
athlete atlas atom attach attend attic author autumn avenue avoid awake award away awful axis axle baby back bacon
badge bagel baker balance balcony ball balm bamboo banana band banjo bank banner barber bargain bark barley barn
barrel base basil basket batch bath baton battery beach bead beagle beak beam bean beard beast beat beaver become beef
beetle before begin behave behind belief bell belong belt bench bend benefit berry beside best better between beyond
bicycle bike bill bind bingo birch bird biscuit bison bite bitter black blade blame blank blast blaze blend bless
blimp blind block bloom blossom blouse blue bluff blunt blur blush board boat body boil bold bolt bonanza bone bonfire
bonus book boost boot border borrow boss both bottle bound bowl brace brain brand brass brave bread breeze brick
bridge brief bright bring brisk bronze broom brother brown brush bubble bucket buddy budget buffalo bugle build bulb
bulk bull bumper bundle bunker burger burn burst bush butter buzz cabbage cabin cable cactus cadet cage cake calf call
calm camel camp canal candy cannon canoe canvas canyon cape capital captain caramel carbon card cargo carpet carry
cart carve case cash castle casual catalog catch cattle cause cave cedar ceiling celery cement census center ceramic
cereal certain chain chalk chamber change chapel charm chase cheap check cheese chef cherry chess chew chicken chief
child chimney chin chip choir choose chord chrome chunk cider cinema circle citizen city civic claim clam clap clarify
clash claw clay clean clerk clever client cliff climb cling clip cloak clock close cloth cloud clover clown club clue
cluster clutch coach coast coat cobalt cobra cobweb cocoa code coffee coil coin cola cold collar color column comb
comet comfort comic common compass concert condor cone confirm connect console contact cook cool copper copy coral
core cork corn correct cosmic cotton couch cough count couple court cousin cover coyote crab cradle craft crane crash
crater crawl crayon cream credit creek crest crew cricket crimson crisp critic crop cross crowd cruise crumb crunch
crush crystal cube cuddle culture curb cure curious curl curry curtain curve cushion custom cycle cymbal cypress daily
dairy daisy damp dance danger dare dark dart dash data date dawn deal debate decade decide deck decline deep deer
defend define degree delay deliver delta demand denim dense dentist depart depend deposit depth derby desert design
desk detail detect detour develop device devote dial diamond diary diesel diet differ digital dilemma dime dine dingo
dinner direct dirt disc dish display distant ditch dive divide dock doctor dodge doll dolphin domain dome donate
donkey donor door double dough dove down dozen draft dragon drain drama draw dream dress drift drill drink drive
drizzle drone drop drum duck duel duet dune dusk dust duty dwell dynamo each eager eagle early earn earth easel east
easy echo eclipse edge edit educate effort eight either elastic elbow elder elect elegant element eleven elite embark
ember emblem embrace emerald emotion employ empty enable enamel endless endorse energy engage engine enhance enjoy
enlist enough enrich enroll ensure enter entire entry envoy episode equal equip erase erode errand error escape essay
essence estate eternal ethics event every evolve exact example exceed excite exhaust exhibit exist exit exotic expand
expect explain export express extend extra eyebrow fabric face factor fade falcon fall false fame family famous fancy
fantasy farm fashion fast father faucet fault favor feast feather federal feed feel fellow felt fence fender fern
ferry fertile festive fetch fever fiber fiction fiddle field fierce figure file fill film filter final finch find fine
finger finish fire firm first fiscal fish fist five flag flake flame flannel flap flash flat flavor fleet flesh flex
flight flint flip float flock floor floral flow fluid flush flute foam focus foil fold folk follow food foot force
forest forget fork formal fortune forum fossil foster found four fragile frame freedom freight fresh friend fringe
frog front frost frown frozen fruit fuel full funny furnace fury future gadget gain galaxy gallop game gander garage
garden garlic garnet gasp gate gather gauge gauze gaze gear gecko general genius gentle genuine geology gesture geyser
giant gift giggle ginger giraffe give glacier glad glance glare glass glaze glide glimpse globe gloom glory glove glow
glue goal goat goblet goggle gold golf gondola good goose gopher gorge gorilla gossip govern gown grab grace grade
grain grand grape grass gravy gray green grid griffin grill grin grip grocery groove group grove growl guard guess
guide guitar gulf gull gust gypsum habit hail hair half hall halo halt hamlet hammer hamster hand hangar happy harbor
hard harmony harness harp harvest hash hatch haven hawk hazard hazel head health heart heat heavy hedge height helium
helmet help herald herb herd hermit heron hexagon hickory hidden high hiking hill hint hire history hobby hockey hold
hole holiday hollow home honey hood hoof hook hoop hope horizon horn horse host hotel hound house hover huddle huge
human humble humor hundred hunt hurdle hurry hybrid icicle icon ideal igloo image imitate impact import improve
impulse inch include income index indigo indoor infant inflate inform inhale inject inner input inquiry insect inside
inspire install intact invest invite iron island isotope issue item ivory jacket jade jaguar jasmine javelin jazz
jeans jelly jersey jetty jewel jigsaw jockey joint joke jolly journal judge juggle juice jumbo jump jungle junior jury
just kale kayak keel keen keep kelp kennel kernel kettle kick kilo kind king kiosk kitchen kite kitten kiwi knee koala
label labor lace ladder lagoon lake lamb lamp lance land lane lantern laptop large lark laser latch later laugh
laundry lava lawn layer leader leaf league lean learn leather leave lecture ledge leek left legal legend leisure lemon
lend lens lentil leopard lesson letter level liberty library license life lift light like lilac lily limb lime limit
limp linen lion liquid list liter little live lizard llama loan lobby lobster local locket lodge loft logic lonely
long look loop loose lottery lotus loud lounge love loyal lucky luggage lumber lunar lunch lung lupine luxury lynx
lyric machine magenta magic magma magnet magpie major make mallet mammal manage mandate mango manner mansion mantle
manual maple marble march margin marine mark maroon marsh marvel mascot mask mason mast match matrix matter maximum
maze meadow meal mean measure medal media medley meerkat melon melt member memory mentor menu mercy merge merit merry
mesh message metal meter method metro middle might milk mill mimic mind mineral minimum mink minnow mint minute
miracle mirror misty mixture mobile model modify module mole moment monarch money monitor monkey monsoon month moon
moose moral more mortar mosaic moss moth motion motor mound mouse mouth move movie much muffin mule muscle museum
music muslin must mutual muzzle myself mystery myth nail name napkin narrow nation nature navy near neat nectar need
neon nephew nerve nest network neutral never nickel night nimble nine noble nobody noise nomad noodle noon normal
north nose notable notch note nothing notice nougat novel nozzle number nurse nutmeg nylon oasis oatmeal obey object
oblige obscure observe obtain obvious ocean octopus offer office often okay olive olympic omega omit once onion online
only onset onyx opal open opera opinion oppose option orange orbit orchid order organ origin oriole osprey ostrich
other otter outdoor outer output oval oven over owner oxygen oyster ozone pace pack paddle page paint palace palm
panda panel panic panther papaya paper parade parcel pardon parent parish parka parrot parsley party pass pasta patch
path patient patrol pattern pause pave payment peach peanut pearl pebble pecan pedal pelican pencil penguin people
pepper perch perfect period permit person phone phrase piano pick picnic picture pier pigeon pillow pilot pinch pine
pink pint pioneer pipe pirate pitch pivot pizza place plain plank plasma plate plaza please pledge plenty plot plow
pluck plug plum plunge plus pocket podium poem poet point polar pole police pollen polo pond pony pool popcorn poplar
poppy popular porch port post potato pottery pouch powder power praise prawn predict prefer prepare present pretty
prevent price pride primary print prism private prize problem process produce profit program project promote proof
proper prose protect proud provide public puddle puffin pull pulp pulse puma pump punch pupil puppy pure purple purse
push puzzle pyramid python quail quality quantum quart queen query quest quick quiet quill quince quit quiver quiz
quota rabbit raccoon race rack radar radio raft rail rain raise rally ramp ranch random range rapid rare rather rattle
raven ravine razor reach ready real reason rebel rebuild recall receive recipe record recycle redwood reef reflect
reform refuse region regret regular relax release relief rely remain remedy remind remote render renew rent repair
repeat reply report rescue resist resort respond rest result retire return reunion reveal review reward rhino rhythm
ribbon rice rich ride ridge right rigid ring rinse ripple risk ritual rival river road roast robin robot robust rocket
rodeo romance roof rookie room rooster root rope rose rotate rotor rough round rover royal rubber ruby rudder ruler
rumba rumor runway rural rush rust sable saddle safari safe saffron saga sage sail salad salmon salon salt salute same
sample sand sapling satin saturn sauce sauna sausage save scale scan scarf scatter scene scheme school science scooter
score scout scrap screw script scroll sculpt seafood seal search season seat second secret section sedan seed seek
segment select senate send senior sense sentry series service session settle seven shadow shaft shake shallow shape
share shed sheep shell sherbet shield shift shimmer shine ship shirt shiver shock shoe shop short shovel shower shrimp
shrub shuttle sibling side siege sierra sign silent silk silver simple since sing siren sister size skate sketch skill
skin skirt slab sleek slice slide slight slim sling slogan slope slot slow small smart smile smoke smooth snack snail
snake snap sneeze snow soap soccer social sock soda sofa soft solar solid solo solve song sonic soon sort soup south
space spade spare speak speed spell spend sphere spice spider spike spin spiral splash sponge spoon sport spot spray
spread spring sprout spruce spur squad squid stable staff stage stamp stand staple start state stay steam stem step
stereo stew stick still sting stock stone stool stop store stove straw stream strike strong studio stuff style submit
subway such sudden sugar suit summer sunny sunset super supper surge survey swamp swan swarm swift swim swing switch
sword symbol syrup system table tackle taco tactic tail talent talk tall tango tank tape target tart task taste tavern
taxi teach team teapot tell tenant tender tennis tent term test text thank theme theory thing thirst thorn three
thrive throat thumb ticket tidal tiger tile timber tiny tire tissue title toad toast today toffee token tomato tone
tonic tool tooth topaz topic torch toss total touch tough tour tower town track trade trail trap travel tray treat
tree trek trend trial trick trim trio trip trophy trout truck true trunk trust truth tube tulip tumble tuna tundra
tunnel turkey turn turtle tuxedo twelve twenty twice twig twin twist tycoon ultra umpire unable uncle under unfair
unfold union unique unit unlock until unveil update uphold upon upper upset urban urge used useful usual vacuum vague
valid valley valor value valve vanish vapor vast vault vector velvet vendor venue verb verify vessel video view vine
vinyl viola virtue visa visit visual vital vivid vocal voice void volley volume vortex vote voyage waffle wagon walk
wall walnut walrus waltz wander want warm wash wasp water wave wealth weapon wear weasel west whale wheat wheel when
white wide width wild willow window wing winner winter wire wisdom wise wish wizard wolf wombat wonder wood wool word
work world worm worry worth wrap wreath wren wrist write yacht yard yarn year yeast yellow yeti yield yoga yogurt yolk
young youth yucca zebra zenith zephyr zero zest zigzag zinc zipper zodiac zone zoom
`)
